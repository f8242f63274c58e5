import { render } from "preact";

import { App } from "./app.js";
import { Gateway } from "./gateway.js";
import "./style.css";

addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
const gateway = new Gateway();
render(<App gateway={gateway} />, document.getElementById("app") as HTMLElement);
