/* The function of all languages, with its runtime, in C: no library but libc, an HTTP client of its own.
 * README.md beside has its verbs. What the Runtime API says wrongly ends the process. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define API "/2018-06-01/runtime"

struct reply {
	int status;
	char head[16384]; /* status line and header lines, zero-terminated */
	char *body;       /* zero-terminated, to be freed */
	size_t length;
};

static void give_up(const char *why)
{
	fprintf(stderr, "runtime: %s\n", why);
	exit(1);
}

static int connect_to_api(void)
{
	char host[64] = "";
	int port = 0;
	const char *address = getenv("AWS_LAMBDA_RUNTIME_API");
	struct sockaddr_in to = {.sin_family = AF_INET};
	int sock = socket(AF_INET, SOCK_STREAM, 0);

	if (!address || sscanf(address, "%63[^:]:%d", host, &port) != 2 || inet_pton(AF_INET, host, &to.sin_addr) != 1)
		give_up("AWS_LAMBDA_RUNTIME_API is no address:port");
	to.sin_port = htons((unsigned short)port);
	if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof to) < 0)
		give_up("cannot connect");
	return sock;
}

static void send_all(int sock, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(sock, bytes, length, MSG_NOSIGNAL);
		if (sent <= 0)
			give_up("cannot send");
		bytes += sent;
		length -= (size_t)sent;
	}
}

/* The value of a header, zero-terminated in `value`, "" when there is none. */
static const char *header(const struct reply *reply, const char *name, char *value, size_t size)
{
	size_t named = strlen(name);
	const char *line = reply->head;

	value[0] = 0;
	while ((line = strstr(line, "\r\n")) != NULL) {
		line += 2;
		if (strncasecmp(line, name, named) == 0 && line[named] == ':') {
			line += named + 1;
			line += strspn(line, " ");
			snprintf(value, size, "%.*s", (int)strcspn(line, "\r"), line);
			return value;
		}
	}
	return value;
}

static void receive(int sock, struct reply *reply)
{
	char text[32];
	char *end = NULL;
	size_t had = 0, beyond;

	while (!end) {
		ssize_t got = recv(sock, reply->head + had, sizeof reply->head - 1 - had, 0);
		if (got <= 0)
			give_up("the header never ends");
		had += (size_t)got;
		reply->head[had] = 0;
		end = strstr(reply->head, "\r\n\r\n");
	}
	beyond = had - (size_t)(end + 4 - reply->head);
	if (sscanf(reply->head, "HTTP/1.1 %d", &reply->status) != 1 || !*header(reply, "Content-Length", text, sizeof text))
		give_up("neither status nor length");
	reply->length = strtoul(text, NULL, 10);
	reply->body = malloc(reply->length + 1);
	if (!reply->body || beyond > reply->length)
		give_up("no memory, or more than was announced");
	memcpy(reply->body, end + 4, beyond);
	end[2] = 0;
	while (beyond < reply->length) {
		ssize_t got = recv(sock, reply->body + beyond, reply->length - beyond, 0);
		if (got <= 0)
			give_up("the body is cut off");
		beyond += (size_t)got;
	}
	reply->body[reply->length] = 0;
}

static void post(int sock, const char *id, const char *what, const char *body, size_t length)
{
	char head[1024];
	struct reply reply;
	int size = snprintf(head, sizeof head,
			    "POST " API "/invocation/%s/%s HTTP/1.1\r\nHost: runtime\r\nContent-Type: application/json\r\n"
			    "%sContent-Length: %zu\r\n\r\n",
			    id, what, strcmp(what, "error") ? "" : "Lambda-Runtime-Function-Error-Type: Refused\r\n", length);

	send_all(sock, head, (size_t)size);
	send_all(sock, body, length);
	receive(sock, &reply);
	if (reply.status != 202)
		give_up(reply.body);
	free(reply.body);
}

static int asks_for(const struct reply *event, const char *verb)
{
	return strstr(event->body, "\"verb\"") && strstr(event->body, verb);
}

int main(void)
{
	static const char next[] = "GET " API "/invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n";
	static const char failure[] = "{\"errorType\": \"Refused\", \"errorMessage\": \"refused by verb\"}";
	int sock = connect_to_api();

	for (int invocations = 1;; invocations++) {
		struct reply event;
		char id[128], arn[256], deadline[32], answer[1024];

		send_all(sock, next, sizeof next - 1);
		receive(sock, &event);
		if (event.status != 200)
			give_up(event.body);
		header(&event, "Lambda-Runtime-Aws-Request-Id", id, sizeof id);
		header(&event, "Lambda-Runtime-Invoked-Function-Arn", arn, sizeof arn);
		header(&event, "Lambda-Runtime-Deadline-Ms", deadline, sizeof deadline);
		if (asks_for(&event, "\"exit\""))
			return 3;
		if (asks_for(&event, "\"sleep\""))
			sleep(60);
		if (asks_for(&event, "\"fail\"")) {
			post(sock, id, "error", failure, sizeof failure - 1);
		} else if (asks_for(&event, "\"describe\"")) {
			int size = snprintf(answer, sizeof answer,
					    "{\"requestId\": \"%s\", \"arn\": \"%s\", \"deadlineMs\": %s, \"function\": \"%s\","
					    " \"handler\": \"%s\", \"uid\": %d, \"invocations\": %d}",
					    id, arn, deadline, getenv("AWS_LAMBDA_FUNCTION_NAME"), getenv("_HANDLER"),
					    (int)getuid(), invocations);
			post(sock, id, "response", answer, (size_t)size);
		} else {
			post(sock, id, "response", event.body, event.length);
		}
		free(event.body);
	}
}
