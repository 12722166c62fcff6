"use strict";
// A key counts for the image that is shown and for no other: none is taken while an answer is on
// its way to the disk, or before the image is there to be seen.

const $ = (id) => document.getElementById(id);
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const POLL = 3000;

let images = [], classes = [], again = "", at = -1, zoom = 0;
let sending = false, seen = false, conflict = null, writes = 0, ailing = false;
const undone = [], skipped = new Set();

async function ask(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. What was saved is safe, this answer was not: " +
      "run adaptune label again and open the address that it prints.");
  }
  if (reply.ok || reply.status === 409) return { status: reply.status, said: await reply.json() };
  throw new Error(await reply.text());
}

function tell(message, choices = false) {
  $("alert").hidden = !message;
  $("said").textContent = message;
  $("choices").hidden = !choices;
}

async function read() {
  const before = writes, { said } = await ask("state");
  if (before !== writes) return; // it may be of the moment before the last answer
  const current = images[at]?.id;
  const other = said.images.map((one) => one.id).join() !== images.map((one) => one.id).join() ||
    said.classes.join("\n") !== classes.join("\n");
  ({ images, classes, again } = said);
  $("run").textContent = said.run;
  $("again").textContent = again;
  if (other) {
    undone.length = 0;
    skipped.clear();
    at = images.findIndex((one) => one.id === current && !one.label);
    drawClasses();
    if (at < 0) forward();
    else show(at);
  } else draw();
}

function forward() {
  const open = (only) => {
    for (let step = 1; step <= images.length; step++) {
      const to = (Math.max(at, -1) + step) % images.length;
      if (!images[to].label && (!only || !skipped.has(images[to].id))) return to;
    }
    return -1;
  };
  let to = open(true);
  if (to < 0) {
    skipped.clear();
    to = open(false);
  }
  show(to);
}

function show(to) {
  at = to;
  seen = false;
  zoom = 0;
  $("broken").hidden = true;
  const one = images[at];
  $("image").hidden = true;
  if (one) $("image").src = `image/${one.id}`;
  else $("image").removeAttribute("src");
  if ($("search").value) {
    $("search").value = "";
    drawClasses();
  }
  draw();
  if (!one && images.length) $("done-title").focus();
}

function draw() {
  const one = images[at], count = images.filter((each) => each.label).length;
  $("work").hidden = !one;
  $("done").hidden = Boolean(one);
  $("all").hidden = !images.length;
  $("progress").max = images.length || 1;
  $("progress").value = count;
  const last = undone.at(-1), named = last && images.find((each) => each.id === last.id);
  $("status").textContent = images.length
    ? `${count} of ${images.length} have a label.` +
      (named?.label ? ` Last answer: ${named.label}.` : "")
    : "The run took the answers. If it asks again, its questions come up here.";
  $("done-title").textContent = images.length ? "All images have a label" : "Nothing is asked now";
  $("name").textContent = one ? one.name : "";
  $("image").alt = one ? `image ${at + 1} of ${images.length}` : "";
  $("undo").disabled = !undone.length;
  for (const button of $("classes").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(Boolean(one) && button.dataset.name === one.label));
  drawAsked();
}

function drawAsked() {
  const list = $("asked");
  while (list.children.length > images.length) list.lastChild.remove();
  while (list.children.length < images.length) {
    const button = document.createElement("button"), number = list.children.length;
    button.addEventListener("click", () => { if (!sending) show(number); });
    list.append(button);
  }
  images.forEach((one, number) => {
    const button = list.children[number];
    button.textContent = one.label ? `${number + 1} ${one.label}` : `${number + 1}`;
    button.className = one.label ? "done" : "";
    button.setAttribute("aria-current", String(number === at));
    button.setAttribute("aria-label", `image ${number + 1}, ${one.label || "no label yet"}`);
  });
}

function found() {
  const said = $("search").value.trim().toLowerCase();
  const starts = classes.filter((name) => name.toLowerCase().startsWith(said));
  return [...starts, ...classes.filter((name) => {
    const low = name.toLowerCase();
    return low.includes(said) && !low.startsWith(said);
  })];
}

function drawClasses() {
  const list = $("classes");
  list.replaceChildren(...found().map((name, number) => {
    const row = document.createElement("li"), button = document.createElement("button");
    if (number < 9) {
      const key = document.createElement("kbd");
      key.textContent = number + 1;
      key.setAttribute("aria-hidden", "true");
      button.append(key);
      button.setAttribute("aria-keyshortcuts", number + 1);
    }
    button.append(name);
    button.dataset.name = name;
    button.setAttribute("aria-pressed", String(images[at]?.label === name));
    button.addEventListener("click", () => answer(name));
    row.append(button);
    return row;
  }));
}

async function write(one, label, before) {
  sending = true;
  writes++;
  try {
    const { status, said } = await ask("answer", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id: one.id, label, before }),
    });
    one.label = said.label;
    if (status === 409) {
      conflict = { one, label };
      const theirs = said.label ? `wrote ${said.label}` : "took the label back";
      tell(`Somebody else ${theirs} for this image. Your answer, ` +
        `${label || "no label"}, is not written.`, true);
      $("mine").focus();
      return false;
    }
    conflict = null;
    tell("");
    return true;
  } catch (error) {
    tell(error.message);
    return false;
  } finally {
    sending = false;
    draw();
  }
}

async function answer(label) {
  const one = images[at];
  if (!one || sending || !seen || conflict) return;
  const before = one.label;
  if (before === label || await write(one, label, before)) {
    if (before !== label) undone.push({ id: one.id, before });
    skipped.delete(one.id);
    forward();
    if (document.activeElement === $("search") || document.activeElement === document.body)
      $("view").focus({ preventScroll: true });
  }
}

async function undo() {
  if (sending || conflict || !undone.length) return;
  const last = undone.at(-1), to = images.findIndex((one) => one.id === last.id);
  if (to < 0) {
    undone.pop();
    return draw();
  }
  if (await write(images[to], last.before, images[to].label)) {
    undone.pop();
    show(to);
  }
}

function skip() {
  if (sending || conflict || !images[at]) return;
  skipped.add(images[at].id);
  forward();
}

function step(by) {
  if (!sending && !conflict && images.length)
    show(((at < 0 && by < 0 ? 0 : at) + by + images.length) % images.length);
}

function resize() {
  const image = $("image"), view = $("view");
  if (!image.naturalWidth) return;
  const fits = Math.min((view.clientWidth - 4) / image.naturalWidth,
    (view.clientHeight - 4) / image.naturalHeight);
  image.style.width = `${Math.max(1, image.naturalWidth * fits * ZOOMS[zoom])}px`;
  image.className = fits * ZOOMS[zoom] > 2 ? "sharp" : "";
  $("smaller").disabled = zoom === 0;
  $("larger").disabled = zoom === ZOOMS.length - 1;
}

function zoomTo(level) {
  zoom = Math.min(ZOOMS.length - 1, Math.max(0, level));
  resize();
}

$("image").addEventListener("load", () => {
  seen = true;
  $("image").hidden = false;
  resize();
});
$("image").addEventListener("error", async () => {
  const one = images[at];
  if (!one) return;
  try {
    const reply = await fetch(`image/${one.id}`);
    if (images[at] !== one) return;
    $("broken").textContent = reply.ok ? "The image cannot be shown." : await reply.text();
    $("broken").hidden = false;
    seen = true;
  } catch {
    tell("The server does not answer. What was saved is safe: run adaptune label again and open " +
      "the address that it prints.");
  }
});
$("image").addEventListener("click", () => zoomTo(zoom ? 0 : 2));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
$("back").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("smaller").addEventListener("click", () => zoomTo(zoom - 1));
$("larger").addEventListener("click", () => zoomTo(zoom + 1));
$("fit").addEventListener("click", () => zoomTo(0));
$("search").addEventListener("input", drawClasses);
$("mine").addEventListener("click", async () => {
  const { one, label } = conflict;
  conflict = null;
  const before = one.label;
  if (await write(one, label, before)) {
    undone.push({ id: one.id, before });
    forward();
    $("view").focus({ preventScroll: true });
  }
});
$("theirs").addEventListener("click", () => {
  conflict = null;
  tell("");
  forward();
  $("view").focus({ preventScroll: true });
});
window.addEventListener("resize", resize);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key, typing = document.activeElement === $("search");
  const taken = () => event.preventDefault();
  if (typing) {
    if (key === "Enter" && found().length) { taken(); answer(found()[0]); }
    if (key === "Escape") {
      taken();
      $("search").value = "";
      drawClasses();
      $("view").focus({ preventScroll: true });
    }
    return;
  }
  const scrolls = zoom > 0 && document.activeElement === $("view");
  if (/^[1-9]$/.test(key)) {
    const name = found()[Number(key) - 1];
    if (name) { taken(); answer(name); }
  } else if (key === "/") { taken(); $("search").focus(); }
  else if (key === "u" || key === "Backspace") { taken(); undo(); }
  else if (key === "s") { taken(); skip(); }
  else if (key === "ArrowLeft" && !scrolls) { taken(); step(-1); }
  else if (key === "ArrowRight" && !scrolls) { taken(); step(1); }
  else if (key === "+" || key === "=") { taken(); zoomTo(zoom + 1); }
  else if (key === "-") { taken(); zoomTo(zoom - 1); }
  else if (key === "0") { taken(); zoomTo(0); }
});

async function poll() {
  try {
    if (!sending && !conflict && !document.hidden) {
      await read();
      if (ailing) tell("");
      ailing = false;
    }
  } catch (error) {
    ailing = true;
    tell(error.message);
  }
  setTimeout(poll, POLL);
}

poll();
