// What is listed in the answer comes back; the rest of the batch is done with.
export async function handler(event) {
  const batchItemFailures = [];
  for (const { messageId, body } of event.Records) {
    try {
      const order = JSON.parse(body);
      if (!(order.total > 0)) throw new Error(`a total of ${order.total}`);
      console.log(`order ${order.id}: ${order.total.toFixed(2)} ${process.env.CURRENCY}`);
    } catch (error) {
      console.error(`order of message ${messageId} refused: ${error.message}`);
      batchItemFailures.push({ itemIdentifier: messageId });
    }
  }
  return { batchItemFailures };
}
