"use strict";

const $ = (id) => document.getElementById(id);
let about = { most: Infinity, why: "" }, turn = 0;

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function tell(message) {
  $("alert").hidden = !message;
  $("alert").textContent = message;
}

async function look(file) {
  if (!file) return;
  const mine = ++turn;
  tell("");
  if (file.size > about.most) {
    $("status").textContent = "";
    $("result").hidden = $("nearest").hidden = true;
    return tell(`This file has ${(file.size / 2 ** 20).toFixed(0)} MB, and up to ` +
      `${about.most / 2 ** 20} are taken: shrink the image.`);
  }
  $("status").textContent = `Looking at ${file.name || "the image"}.`;
  let reply, said;
  try {
    reply = await fetch("look", { method: "POST", body: file });
    said = reply.ok ? await reply.json() : await reply.text();
  } catch {
    said = "The server does not answer: run adaptune try again and open the address that it prints.";
  }
  if (mine !== turn) return; // another image came since
  $("status").textContent = reply?.ok ? `${file.name || "The image"} was looked at.` : "";
  $("result").hidden = $("nearest").hidden = true;
  if (reply?.ok) show(said);
  else tell(said);
}

function show(said) {
  $("result").hidden = false;
  $("picture").src = said.picture;
  $("mask").hidden = $("veil-row").hidden = !said.mask;
  if (said.mask) $("mask").src = said.mask;
  $("answer").textContent = said.mask ? said.top[0].name : said.answer;
  $("confidence").textContent = said.mask
    ? `covers most; the network is ${percent(said.confidence)} sure, as the mean over all places`
    : `the network is ${percent(said.confidence)} sure of ${said.top[0].name}`;
  $("unknown").hidden = !said.rejects;
  $("unknown").className = said.unknown ? "said odd" : "said";
  $("unknown").textContent = said.unknown
    ? "By the run's own threshold it is of none of the classes."
    : "By the run's own threshold it is of one of the classes.";
  $("top").replaceChildren(...said.top.map(bar));
  $("domain").className = said.outside ? "said odd" : "said";
  $("domain").textContent = said.outside === null
    ? `Not known: ${about.why || "there are no training images"}.`
    : `${said.outside ? "Out of the domain" : "Within the domain"}: its distance from the ` +
      `training images is ${said.away.toFixed(2)}, and up to ${about.limit.toFixed(2)} is within.`;
  $("rate").hidden = said.outside === null;
  if (said.outside !== null)
    $("rate").textContent = `${percent(said.farther)} of the run's ${about.held} validation images ` +
      "lie as far or farther. The bound is such that about " +
      `${percent(about.rate)} of new images of the domain are called out of it by mistake.`;
  $("nearest").hidden = !said.nearest.length;
  $("near").replaceChildren(...said.nearest.map(near));
  $("answer-title").focus({ preventScroll: true });
}

function bar(one) {
  const row = document.createElement("tr");
  const [name, drawn, share] = [0, 1, 2].map(() => row.insertCell());
  if (one.color) {
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${one.color})`;
    name.append(swatch);
  }
  name.append(one.name);
  const meter = document.createElement("meter");
  meter.value = one.share;
  meter.setAttribute("aria-label", one.name);
  drawn.append(meter);
  share.textContent = percent(one.share);
  return row;
}

function near(one) {
  const figure = document.createElement("figure"), image = document.createElement("img");
  const caption = document.createElement("figcaption");
  image.alt = one.picture ? `a training image ${one.label && `of ${one.label}`}` : "";
  if (one.picture) image.src = one.picture;
  image.title = one.name;
  caption.textContent = `${one.label} ${one.distance.toFixed(2)}`.trim();
  figure.append(image, caption);
  return figure;
}

$("file").addEventListener("change", () => look($("file").files[0]));
$("picture").addEventListener("load", () => {
  const { naturalWidth: width, naturalHeight: height } = $("picture");
  $("picture").classList.toggle("tiny", Math.max(width, height) < 128);
});
$("veil").addEventListener("input", () => { $("mask").style.opacity = $("veil").value / 100; });
$("mask").style.opacity = 0.6;
for (const kind of ["dragenter", "dragover"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
for (const kind of ["dragleave", "drop"])
  document.addEventListener(kind, () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) look(file);
  else tell("That was no file: save the image first, then drop it here.");
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) look(file);
});

(async () => {
  try {
    about = await (await fetch("state")).json();
    $("run").textContent = `${about.run} · ${about.classes.join(", ")}`;
  } catch {
    tell("The server does not answer: run adaptune try again and open the address that it prints.");
  }
})();
