// The function of all languages, in JavaScript; README.md beside has its verbs.
import { setTimeout } from "node:timers/promises";

let invocations = 0;

class Refused extends Error {
  name = "Refused";
}

export async function handler(event, context) {
  invocations += 1;
  if (event.verb === "fail") throw new Refused("refused by verb");
  if (event.verb === "exit") process.exit(3);
  if (event.verb === "sleep") await setTimeout(60_000);
  if (event.verb === "describe") return describe(context);
  return event;
}

function describe(context) {
  return {
    requestId: context.awsRequestId,
    arn: context.invokedFunctionArn,
    deadlineMs: Date.now() + context.getRemainingTimeInMillis(),
    function: context.functionName,
    handler: process.env._HANDLER,
    uid: process.getuid(),
    invocations,
    node: process.version,
    modules: process.env.NODE_PATH,
    execution: process.env.AWS_EXECUTION_ENV,
  };
}

// Writes each of the event's parts when it is due; `fail` ends it with an error.
export const stream = awslambda.streamifyResponse(async (event, output) => {
  for (const part of event.parts) {
    output.write(part);
    await setTimeout(event.pauseMs ?? 0);
  }
  if (event.fail) throw new Refused("refused by verb");
  output.end();
});
