import { render } from "preact";

import { App } from "./app.js";
import { Gateway } from "./gateway.js";
import "./style.css";

const gateway = new Gateway();
render(<App gateway={gateway} />, document.getElementById("app") as HTMLElement);
