// Keys come as they are in a URL: a space is a plus.
export async function on_upload(event) {
  for (const { s3 } of event.Records ?? []) {
    const key = decodeURIComponent(s3.object.key.replaceAll("+", " "));
    console.log(`arrived: ${s3.bucket.name}/${key}, ${s3.object.size} bytes`);
  }
}

export async function on_task(event) {
  for (const { messageId, body } of event.Records) {
    console.log(`task ${messageId}: ${body}`);
  }
}
