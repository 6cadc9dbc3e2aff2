// Uses `schema`, types that were generated from the document, on the server and the workspace that are named.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.mts";

const [url, workspace] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: url });
const log = { path: { workspace } };
const queue = { path: { workspace, ref: "build" } };

const event = await client.POST("/v1/workspaces/{workspace}/events", { params: log, body: { kind: "a" } });
const batch = await client.POST("/v1/workspaces/{workspace}/events/batch", {
  params: log,
  body: [{ kind: "b" }, { kind: "c", payload: { n: 1 } }],
});
assert.deepEqual([event.data?.offset, ...(batch.data?.events ?? []).map((one) => one.offset)], [1, 2, 3]);
const page = await client.GET("/v1/workspaces/{workspace}/events", {
  params: { ...log, query: { since: "0", kind: ["b"] } },
});
assert.deepEqual(page.data?.events.map((one) => one.kind), ["b"]);

const slots = "/v1/workspaces/{workspace}/actions/{ref}/slots";
const granted = await client.POST(slots, { params: queue, body: { execution_id: "e1", max_concurrent: 1 } });
const queued = await client.POST(slots, { params: queue, body: { execution_id: "e2", max_concurrent: 1 } });
assert.deepEqual([granted.data?.state, queued.data?.state, queued.data?.position], ["granted", "queued", 1]);
assert.equal(queued.data?.fencing_token, undefined);
const of = (execution_id: string) => ({ params: { path: { ...queue.path, execution_id } } });
assert.equal((await client.DELETE(`${slots}/{execution_id}`, of("e1"))).data?.result, "released");
assert.equal((await client.GET(`${slots}/{execution_id}`, of("e2"))).data?.state, "granted");
assert.equal((await client.GET(`${slots}/{execution_id}`, of("nobody"))).error?.code, "NOT_FOUND");
