import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { Gateway } from "./gateway.js";
import { t } from "./texts.js";

/** A form for a token, which is sent to the gateway and stored nowhere. */
export function SignIn({ gateway, onDone }: { gateway: Gateway; onDone: () => void }): JSX.Element {
  const [token, setToken] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    gateway.signIn(token);
    setToken("");
    onDone();
  };
  const { closed } = gateway;
  return (
    <form class="panel signin" onSubmit={submit} autocomplete="off">
      <h2>{t("signin")}</h2>
      <p>{t(gateway.isTokenExpiring ? "signin.expiring" : "signin.why")}</p>
      {gateway.token !== null && closed?.code === 4501 && (
        <p class="error" role="alert">
          {t("signin.refused", closed.reason)}
        </p>
      )}
      <label>
        {t("signin.token")}
        <input
          type="password"
          name="token"
          required
          autocomplete="off"
          spellcheck={false}
          value={token}
          onInput={({ currentTarget }) => setToken(currentTarget.value)}
        />
      </label>
      <button type="submit" class="primary">
        {t("signin")}
      </button>
      <p class="quiet">{t("signin.kept")}</p>
    </form>
  );
}
