/** Replaces the client's requests over HTTP, which the elements do not need, to keep embed.js small. */
export const OVER_SOCKET = Symbol("publish over the connection");

export abstract class Rest {}
