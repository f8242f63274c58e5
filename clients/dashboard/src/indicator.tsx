import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { clock, figure } from "./format.js";
import type { Gateway, Notice } from "./gateway.js";
import { gapText } from "./rows.js";
import { t } from "./texts.js";

/** The state of the connection, and the notices about it. */
export function Indicator({ gateway, onSignIn }: { gateway: Gateway; onSignIn: () => void }): JSX.Element {
  const { state, retryAt } = gateway.client;
  const [, tick] = useState(0);
  const counts = state === "reconnecting" || gateway.tokenExpires !== null;
  useEffect(() => {
    if (!counts) return;
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [counts]);
  const isExpiring = state === "connected" && gateway.isTokenExpiring;
  const text = isExpiring
    ? t("state.expiring", secondsTo(gateway.tokenExpires))
    : state === "reconnecting"
      ? t("state.reconnecting", secondsTo(retryAt))
      : t(`state.${state}`);
  const latest = gateway.notices[0];
  return (
    <div class="indicator" data-state={isExpiring ? "expiring" : state}>
      <details class="menu">
        <summary>
          <span class="dot" aria-hidden="true" />
          <span class="text">{text}</span>
          {gateway.notices.length > 0 && <span class="badge">{gateway.notices.length}</span>}
        </summary>
        <div class="panel">
          <h2>{t("notices")}</h2>
          {gateway.notices.length === 0 && <p class="quiet">{t("notices.none")}</p>}
          <ol>
            {gateway.notices.map((notice) => (
              <li key={`${notice.at} ${notice.kind}`} data-notice={notice.kind}>
                <time>{clock(notice.at)}</time> {noticeText(notice)}
              </li>
            ))}
          </ol>
        </div>
      </details>
      {(isExpiring || (state === "closed" && gateway.token !== null)) && (
        <button type="button" onClick={onSignIn}>
          {t("signin")}
        </button>
      )}
      <span class="hidden" role="status">
        {state === "reconnecting" ? "" : text} {latest ? noticeText(latest) : ""}
      </span>
    </div>
  );
}

const secondsTo = (at: number | null): number => Math.max(0, Math.ceil(((at ?? 0) - Date.now()) / 1000));

function noticeText(notice: Notice): string {
  switch (notice.kind) {
    case "resumed":
      return t("notice.resumed", figure(notice.events));
    case "gap":
      return gapText(notice.gap);
    case "lost":
      return t("notice.lost", notice.code, notice.reason);
    case "restarted":
      return t("notice.restarted");
    case "version":
      return t("notice.version", notice.version);
    case "failed":
      return t("notice.failed", notice.message);
  }
}
