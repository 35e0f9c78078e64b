// A function as it is written for the service; nothing in it knows where it runs.
export async function handler(event, context) {
  console.log(`hello from ${context.functionName}, request ${context.awsRequestId}`);
  return {
    message: `Hello, ${event.name ?? "world"}!`,
    node: process.version,
    memory_mb: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    remaining_ms: context.getRemainingTimeInMillis(),
  };
}
