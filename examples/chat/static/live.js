// A small Socket.IO client: WebSocket only, one namespace, acknowledgements, and manners.
//
// The server speaks Engine.IO 4 ("0" open, "1" close, "2" ping, "3" pong, "4" message) with
// Socket.IO 5 inside ("40" connect, "41" disconnect, "42" event, "43" acknowledgement).
// Losing the connection is normal: it comes back by itself, soon, but not together with everybody
// else's.

const SOON = 5000;     // a restart was announced: return within this time
const LONGEST = 10000; // the slowest retry when nobody answers

export class Live extends EventTarget {
  #path; #socket = null; #acks = new Map(); #next = 0; #tries = 0; #silence = 0;

  constructor(path = "/socket.io/") {
    super();
    this.#path = path;
    this.#open();
  }

  // Sends an event; the promise holds the answer, and fails when the connection is lost before it.
  ask(event, data) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(new Error("not connected"));
      const id = this.#next++;
      this.#acks.set(id, { resolve, reject });
      this.#socket.send(`42${id}${JSON.stringify([event, data])}`);
    });
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.#path}?EIO=4&transport=websocket`);
    socket.onmessage = ({ data }) => this.#packet(socket, data);
    socket.onclose = ({ code }) => this.#lost(code);
    this.#socket = socket;
  }

  #packet(socket, data) {
    this.#listen();
    if (data[0] === "0") {
      const { pingInterval, pingTimeout } = JSON.parse(data.slice(1));
      this.patience = pingInterval + pingTimeout;
      socket.send("40");
    } else if (data[0] === "2") socket.send("3");
    else if (data.startsWith("40")) {
      this.#tries = 0;
      this.#emit("connect");
    } else if (data.startsWith("42")) {
      const [event, value] = JSON.parse(data.slice(2));
      this.#emit(event, value);
    } else if (data.startsWith("43")) {
      const [, id, answer] = /^43(\d+)(.*)$/s.exec(data);
      this.#acks.get(Number(id))?.resolve(JSON.parse(answer)[0]);
      this.#acks.delete(Number(id));
    } else if (data[0] === "1" || data.startsWith("41")) socket.close();
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket.close(), this.patience ?? 45000);
  }

  #lost(code) {
    clearTimeout(this.#silence);
    for (const { reject } of this.#acks.values()) reject(new Error("connection lost"));
    this.#acks.clear();
    this.#emit("lost", code);
    // Told to go (1012), the server has already spread us out: return at once. Cut off, take a
    // random moment, and longer ones each time nobody answers.
    const longest = Math.min(LONGEST, this.#tries ? SOON * 2 ** (this.#tries - 1) : 1000);
    const wait = code === 1012 && !this.#tries ? 0 : Math.random() * longest;
    this.#tries++;
    setTimeout(() => this.#open(), wait);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
