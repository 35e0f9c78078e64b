// For a client with several threads: each answer says where it came from.
import { threadId } from "node:worker_threads";
import { setTimeout } from "node:timers/promises";

export async function handler(event) {
  await setTimeout(event.ms ?? 0);
  return { n: event.n, pid: process.pid, thread: threadId };
}
