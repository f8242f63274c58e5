// nginx in front of a gateway; it can be stopped and started again at the same port.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

import { eventually, freePort } from "./gateway.mjs";

const PATH = `${process.env.PATH}${delimiter}/usr/sbin`;

/** The reason to skip a test that needs nginx; false if nginx is installed. */
export const LACKING = !PATH.split(delimiter).some((folder) => existsSync(join(folder, "nginx"))) && "nginx is not installed";

export class Nginx {
  /** Starts nginx in front of a gateway; it ends with the test `t`. */
  static async start(t, gateway) {
    const nginx = new Nginx(gateway, await freePort());
    t.after(async () => {
      await nginx.end();
      rmSync(nginx.folder, { recursive: true, force: true });
    });
    await nginx.start();
    return nginx;
  }

  constructor(gateway, port) {
    this.folder = mkdtempSync(join(tmpdir(), "ng-nginx-"));
    this.url = `ws://127.0.0.1:${port}/ws`;
    this.health = `http://127.0.0.1:${port}/healthz`;
    this.file = join(this.folder, "nginx.conf");
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((one) => `${one}_temp_path ${this.folder}/${one};`);
    writeFileSync(this.file, `
      ${process.getuid() === 0 ? "user root;" : ""}
      pid ${this.folder}/pid;
      daemon off;
      error_log stderr emerg; # that the gateway is away is what the tests are about
      worker_processes 1;
      events {}
      http {
        access_log off;
        ${temporary.join("\n")}
        server {
          listen 127.0.0.1:${port};
          location / {
            proxy_pass http://127.0.0.1:${gateway.port};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
          }
        }
      }`);
  }

  async start() {
    this.process = spawn("nginx", ["-e", "stderr", "-p", this.folder, "-c", this.file], {
      env: { ...process.env, PATH },
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.exited = once(this.process, "exit");
    await eventually(async () => {
      assert.equal(this.process.exitCode, null, "nginx has exited before it was ready");
      return (await fetch(this.health).catch(() => null))?.ok;
    }, "nginx serves");
  }

  /** Stops nginx, which closes all connections through it. */
  async end() {
    this.process.kill("SIGTERM");
    await this.exited;
  }
}
