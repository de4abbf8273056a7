// The assignment of docs/assignment.md once more, written from that page alone.
// Reads lines of JSON, [endpoint id, salt, unit], and answers with the bucket of each, a line each.

const { createHash } = require("node:crypto");

function bucketOf(endpointId, salt, unit) {
  const key = Buffer.from(`${endpointId}\0${salt}\0${unit}`, "utf8");
  const first8Bytes = createHash("sha256").update(key).digest().readBigUInt64BE(0);
  return Number(first8Bytes % 10000n);
}

const lines = require("node:fs").readFileSync(0, "utf8").split("\n");
const rows = lines.filter((line) => line !== "").map((line) => JSON.parse(line));
process.stdout.write(rows.map((row) => `${bucketOf(...row)}\n`).join(""));
