// The page of the notes service: reads and writes its API at api/, relative to the page.

const element = (id) => document.getElementById(id);
const form = element("form");
const list = element("notes");
let editing = null; // the id of the note in the form, or null for a new one
let next = null; // where the older notes begin

async function api(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(`api/${path}`, options);
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(content.detail ?? `The service answered ${answer.status}.`);
  }
  return content;
}

function say(text, failed = false) {
  element("message").textContent = text;
  element("message").classList.toggle("error", failed);
}

function show(note) {
  const item = element("note").content.cloneNode(true);
  item.querySelector("h3").textContent = note.title;
  item.querySelector(".text").textContent = note.text;
  const time = item.querySelector("time");
  time.dateTime = note.updated;
  time.textContent = new Date(note.updated).toLocaleString();
  const edit = item.querySelector(".edit");
  edit.setAttribute("aria-label", `Edit ${note.title}`);
  edit.addEventListener("click", () => openForm(note));
  const remove = item.querySelector(".delete");
  remove.setAttribute("aria-label", `Delete ${note.title}`);
  remove.addEventListener("click", attempt(async () => {
    await api("DELETE", `notes/${note.id}`);
    if (editing === note.id) openForm(null);
    await load();
    say(`Deleted “${note.title}”.`);
    element("list-heading").focus();
  }));
  list.append(item);
}

async function load(before = null) {
  const page = await api("GET", before === null ? "notes" : `notes?before=${before}`);
  if (before === null) list.replaceChildren();
  page.notes.forEach(show);
  next = page.next;
  element("older").hidden = next === null;
  element("empty").hidden = list.children.length > 0 || next !== null;
  const stats = await api("GET", "stats");
  element("count").textContent = `${stats.notes} ${stats.notes === 1 ? "note" : "notes"}`;
}

function openForm(note) {
  editing = note?.id ?? null;
  element("form-heading").textContent = note ? "Edit note" : "New note";
  element("cancel").hidden = !note;
  form.elements.title.value = note?.title ?? "";
  form.elements.text.value = note?.text ?? "";
  form.elements.title.focus();
}

function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action();
    } catch (error) {
      say(error.message, true);
    }
  };
}

form.addEventListener("submit", attempt(async () => {
  const note = { title: form.elements.title.value.trim(), text: form.elements.text.value };
  if (editing === null) await api("POST", "notes", note);
  else await api("PUT", `notes/${editing}`, note);
  openForm(null);
  await load();
  say("Saved.");
}));
element("cancel").addEventListener("click", () => openForm(null));
element("older").addEventListener("click", attempt(() => load(next)));
attempt(() => load())();
