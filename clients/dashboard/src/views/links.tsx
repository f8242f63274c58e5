import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { ViewProps } from "../app.js";
import type { Refused } from "../gateway.js";
import { Missing } from "../parts.js";
import { t } from "../texts.js";

interface About {
  name: string;
  version: string;
  links: Record<string, string>;
}

const TRY = `ws = new WebSocket(new URL("ws", location.href.replace(/^http/, "ws").replace(/#.*/, "")))
ws.onmessage = message => console.log(message.data)
ws.onopen = () => ws.send('{"type": "subscribe", "channels": ["metrics"], "last": 1}')`;

/** All URLs of the gateway that a browser can open, and an example for the console. */
export function Links({ gateway }: ViewProps): JSX.Element {
  const [about, setAbout] = useState<About | null>(null);
  const [error, setError] = useState<Refused | null>(null);
  useEffect(() => void gateway.rest<About>("").then(setAbout, setError), [gateway]);
  if (about === null) {
    return (
      <>
        <h1>{t("nav.about")}</h1>
        <Missing error={error} />
      </>
    );
  }
  return (
    <>
      <h1>{t("nav.about")}</h1>
      <p>
        neurograph-gateway, {t("links.version", about.version)}. {t("links.intro")}
      </p>
      <dl class="facts">
        {Object.entries(about.links).map(([link, summary]) => (
          <div key={link}>
            <dt>
              <a href={`.${link}`}>{link}</a>
            </dt>
            <dd>{summary.replaceAll("`", "")}</dd>
          </div>
        ))}
      </dl>
      <h2>{t("links.try")}</h2>
      <pre class="panel" tabIndex={0}>
        {TRY}
      </pre>
    </>
  );
}
