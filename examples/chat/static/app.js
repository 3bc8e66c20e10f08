import { Live } from "./live.js";

const $ = (id) => document.getElementById(id);
const live = new Live();
const seen = new Set();
const colours = ["#2f6fdd", "#0f8a6d", "#b3541e", "#8a3fb8", "#b02a5b", "#5a6b00", "#0b7fa5", "#6b4f3a"];

const room = () => decodeURIComponent(location.hash.slice(1)) || "lobby";
const hue = (name) => colours[[...name].reduce((sum, c) => sum + c.codePointAt(0), 0) % colours.length];

let user = localStorage.getItem("user") || `guest-${Math.random().toString(36).slice(2, 6)}`;
$("user").value = user;

function node(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function show(message) {
  if (message.room !== room() || seen.has(message.id)) return;
  seen.add(message.id);
  const line = node("li", message.author === user ? "message mine" : "message", "");
  const face = node("span", "face", message.author[0].toUpperCase());
  face.style.background = hue(message.author);
  const head = node("div", "head", "");
  head.append(
    node("b", "", message.author),
    node("time", "", new Date(message.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })),
    node("span", "server", `via ${message.server}`),
  );
  const text = node("div", "text", "");
  text.append(head, node("p", "", message.body));
  line.append(face, text);
  const list = $("messages");
  const follow = list.scrollHeight - list.scrollTop - list.clientHeight < 120;
  list.append(line);
  if (follow) list.scrollTop = list.scrollHeight;
}

function status(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
}

async function enter() {
  try {
    const answer = await live.ask("join", { room: room(), user });
    if (answer.error) return status("bad", answer.error);
    status("good", `connected to ${answer.server}`);
    answer.messages.forEach(show);
    people(answer.users);
  } catch (error) {
    status("bad", error.message);
  }
}

async function rooms() {
  const answer = await fetch("/api/rooms");
  if (!answer.ok) return;
  const names = new Set([...(await answer.json()).rooms, room()]);
  $("rooms").replaceChildren(...[...names].map((name) => {
    const link = node("a", name === room() ? "here" : "", `# ${name}`);
    link.href = `#${encodeURIComponent(name)}`;
    const item = document.createElement("li");
    item.append(link);
    return item;
  }));
}

function people(names) {
  $("users").replaceChildren(...names.map((name) => node("li", name === user ? "me" : "", name)));
}

function change() {
  seen.clear();
  $("messages").replaceChildren();
  $("title").textContent = `# ${room()}`;
  document.title = `#${room()} · chat`;
  rooms();
  enter();
}

live.addEventListener("connect", () => { enter(); rooms(); });
live.addEventListener("lost", () => status("bad", "reconnecting …"));
live.addEventListener("message", ({ detail }) => show(detail));
live.addEventListener("users", ({ detail }) => people(detail));
window.addEventListener("hashchange", change);

$("user").addEventListener("change", () => {
  user = $("user").value.trim() || user;
  $("user").value = user;
  localStorage.setItem("user", user);
  enter();
});

$("new-room").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("room").value.trim().toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+/, "");
  if (name) location.hash = name.slice(0, 32);
  $("room").value = "";
});

$("compose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = $("body").value.trim();
  if (!body) return;
  try {
    const answer = await live.ask("say", { body });
    if (answer.error) return status("bad", answer.error);
    $("body").value = "";
    show(answer);
  } catch (error) {
    status("bad", error.message);
  }
});

status("", "connecting …");
$("title").textContent = `# ${room()}`;
