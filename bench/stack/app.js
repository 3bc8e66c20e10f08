// The same application for Node: PM2's cluster mode knows nothing else.
const fs = require("fs");
const http = require("http");

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    const answer = () => {
      const body = String(process.pid);
      response.writeHead(200, { "content-type": "text/plain", "content-length": body.length });
      response.end(body);
    };
    if (request.url === "/slow") setTimeout(answer, 1000);
    else answer();
  });
});

setTimeout(() => server.listen(Number(process.env.PORT), "127.0.0.1", () => {
  fs.writeFileSync(`${process.env.BENCH_PIDS}/${process.pid}`, "");
}), 1000 * Number(process.env.BOOT || 1));
