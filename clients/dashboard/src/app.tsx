import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { hrefOf, type Place, setOptions, usePlace } from "./address.js";
import type { Gateway } from "./gateway.js";
import { Indicator } from "./indicator.js";
import { useLive } from "./live.js";
import { SignIn } from "./signin.js";
import { setLanguage, t, type Text } from "./texts.js";
import { Actions } from "./views/actions.js";
import { Channel } from "./views/channel.js";
import { Channels } from "./views/channels.js";
import { Clients } from "./views/clients.js";
import { Links } from "./views/links.js";
import { Logs } from "./views/logs.js";
import { Overview } from "./views/overview.js";
import { Publishers } from "./views/publishers.js";
import { Send } from "./views/send.js";
import { Signals } from "./views/signals.js";

export interface ViewProps {
  gateway: Gateway;
  place: Place;
}

const VIEWS: Record<string, (props: ViewProps) => JSX.Element> = {
  overview: Overview,
  channels: (props) => {
    const [, channel] = props.place.path;
    return channel === undefined ? <Channels {...props} /> : <Channel key={channel} {...props} channel={channel} />;
  },
  logs: Logs,
  signals: Signals,
  actions: Actions,
  publishers: Publishers,
  clients: Clients,
  send: Send,
  about: Links,
};

export function App({ gateway }: { gateway: Gateway }): JSX.Element {
  useLive(gateway);
  const place = usePlace();
  const language = setLanguage(place.options.get("lang"));
  const theme = place.options.get("theme") ?? "system";
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  const [wantsSignIn, setSignIn] = useState(false);
  const name = place.path[0] ?? "overview";
  const shown = name in VIEWS ? name : "overview";
  const View = VIEWS[shown] as (props: ViewProps) => JSX.Element;
  const title = place.path[1] ?? t(`nav.${shown}` as Text);
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    document.title = `${title} – ${t("title")}`;
  }, [title, language]);
  return (
    <div class="app">
      <a class="skip" href="#main" onClick={(click) => (click.preventDefault(), main.current?.focus())}>
        {t("skip")}
      </a>
      <header>
        <a class="brand" href={hrefOf(["overview"])}>
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" />
            <path d="M5 18h5l3-9 5 15 3-8h6" />
          </svg>
          <span>{t("title")}</span>
        </a>
        <Indicator gateway={gateway} onSignIn={() => setSignIn(true)} />
        <Choices theme={theme} language={language} />
      </header>
      <nav aria-label={t("nav")}>
        {Object.keys(VIEWS).map((one) => (
          <a key={one} href={hrefOf([one])} aria-current={one === shown ? "page" : undefined}>
            {t(`nav.${one}` as Text)}
          </a>
        ))}
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        {(gateway.needsToken || wantsSignIn) && <SignIn gateway={gateway} onDone={() => setSignIn(false)} />}
        <View key={`${gateway.generation} ${shown}`} gateway={gateway} place={place} />
      </main>
    </div>
  );
}

function Choices({ theme, language }: { theme: string; language: string }): JSX.Element {
  return (
    <div class="choices">
      <select
        aria-label={t("theme")}
        value={theme}
        onChange={({ currentTarget }) => setOptions({ theme: currentTarget.value === "system" ? null : currentTarget.value })}
      >
        {(["system", "light", "dark"] as const).map((one) => (
          <option key={one} value={one}>
            {t(`theme.${one}`)}
          </option>
        ))}
      </select>
      <select
        aria-label={t("language")}
        value={language}
        onChange={({ currentTarget }) => setOptions({ lang: currentTarget.value })}
      >
        <option value="en">English</option>
        <option value="ru">Русский</option>
      </select>
    </div>
  );
}
