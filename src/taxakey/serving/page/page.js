"use strict";
// The whole page: choose photographs, send them to /v2/identify, show the answer. No library, no foreign server.

const SHOWN = 5; // species listed before "Show more"
const ASKED = 10;
const NOTABLE_POISON = 0.05; // of the probability; the sum alone is no measure of danger
const TELLING = 0.5; // a genus or family worth naming when the species is unsure

const element = (id) => document.getElementById(id);
const limits = { images: 5, imageBytes: 20e6 };
let project = "taxakey";
let photographs = []; // {file, url}

// ---- small helpers ----

function make(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function percent(probability) {
  if (probability >= 0.995) return "over\u00a099\u00a0%";
  if (probability < 0.01) return "under\u00a01\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)}\u00a0MB`;
const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const status = (text) => { element("status").textContent = text; };

function problems(...lines) {
  element("problem").replaceChildren(...lines.map((line) => make("p", "", line)));
}

// ---- choosing photographs ----

function refusal(file) {
  if (photographs.length >= limits.images) return `${file.name} was left out: at most ${limits.images} photographs of one specimen.`;
  if (file.type && !file.type.startsWith("image/")) return `${file.name} isn't a picture.`;
  if (file.size > limits.imageBytes) return `${file.name} is too large: ${megabytes(file.size)}, at most ${megabytes(limits.imageBytes)}.`;
  if (file.size === 0) return `${file.name} is empty.`;
  return null;
}

function add(files) {
  const refused = [];
  for (const file of files) {
    const reason = refusal(file);
    if (reason) refused.push(reason);
    else photographs.push({ file, url: URL.createObjectURL(file) });
  }
  problems(...refused);
  show();
}

function remove(photograph) {
  const position = photographs.indexOf(photograph);
  photographs.splice(position, 1);
  URL.revokeObjectURL(photograph.url);
  problems();
  show();
  status(`${photograph.file.name} removed.`);
  const next = element("thumbs").querySelectorAll(".remove")[Math.min(position, photographs.length - 1)];
  (next ?? element("files")).focus();
}

function thumbnail(photograph) {
  const picture = make("img");
  picture.alt = "";
  picture.onerror = () => picture.replaceWith(make("span", "no-preview", "no preview"));
  picture.src = photograph.url;
  const button = make("button", "remove", "×");
  button.type = "button";
  button.setAttribute("aria-label", `Remove ${photograph.file.name}`);
  button.onclick = () => remove(photograph);
  return make("li", "", picture, make("span", "name", photograph.file.name), button);
}

// Whatever changes the photographs takes the answer to the former ones away.
function show() {
  element("answer").hidden = true;
  document.querySelector("main").classList.remove("answered");
  element("identify").hidden = false;
  element("again").className = "plain";
  element("again").textContent = "Start over";
  element("thumbs").replaceChildren(...photographs.map(thumbnail));
  element("identify").disabled = photographs.length === 0;
  element("again").hidden = photographs.length === 0;
  status(photographs.length ? `${count(photographs.length, "photograph", "photographs")} chosen.` : "");
}

// ---- what else is known: only what the model was trained with ----

const LABELS = { eventDate: "Date", decimalLatitude: "Latitude", decimalLongitude: "Longitude" };
const DEGREES = { decimalLatitude: 90, decimalLongitude: 180 };

function field(term, words) {
  const input = make(words ? "select" : "input");
  input.name = term;
  input.id = `known-${term}`;
  if (words) input.append(...["", ...words].map((word) => new Option(word || "unknown", word)));
  else if (term in DEGREES) Object.assign(input, { type: "number", step: "any", min: -DEGREES[term], max: DEGREES[term], placeholder: "degrees" });
  else input.type = "date";
  input.addEventListener("change", show);
  const label = make("label", "", LABELS[term] ?? term[0].toUpperCase() + term.slice(1));
  label.htmlFor = input.id;
  return make("div", "field", label, input);
}

function offerFields(facts) {
  element("fields").replaceChildren(...facts.takes.map((term) => field(term, facts.words[term])));
  element("known").hidden = facts.takes.length === 0;
}

const knownFields = () => [...element("fields").querySelectorAll("input, select")];

function startOver() {
  knownFields().forEach((input) => { input.value = ""; });
  photographs.forEach((photograph) => URL.revokeObjectURL(photograph.url));
  photographs = [];
  problems();
  show();
  element("files").focus();
}

// ---- asking ----

async function identify(event, anyway = false) {
  event.preventDefault();
  if (!photographs.length) return;
  const form = new FormData();
  photographs.forEach((photograph) => form.append("images", photograph.file));
  knownFields().filter((input) => input.value).forEach((input) => form.append(input.name, input.value));
  problems();
  busy(true);
  try {
    const address = `/v2/identify/${encodeURIComponent(project)}?nb-results=${ASKED}${anyway ? "&no-reject=true" : ""}`;
    const response = await fetch(address, { method: "POST", body: form });
    const answer = await response.json();
    if (response.ok) showAnswer(answer);
    else if (response.status === 404) offerAnyway();
    else problems(inWords(answer));
  } catch {
    problems("The server doesn't answer. Your photographs are still here; try again in a moment.");
  } finally {
    busy(false);
  }
}

function busy(now) {
  const button = element("identify");
  button.textContent = now ? "Identifying…" : "Identify";
  button.disabled = now || photographs.length === 0;
  element("files").disabled = now;
  element("known").disabled = now;
  element("again").disabled = now;
  element("thumbs").querySelectorAll(".remove").forEach((remove) => { remove.disabled = now; });
  if (now) status(`Looking at ${count(photographs.length, "photograph", "photographs")}…`);
  else if (element("answer").hidden) status("");
}

// Some good photographs look like no organism to the model, so a person may ask for the answer all the same.
function offerAnyway() {
  problems("No organism that this model knows can be made out. Try a photograph from closer by, with one specimen in the middle.");
  const button = make("button", "plain", "Show the answer anyway");
  button.type = "button";
  button.onclick = (event) => identify(event, true);
  element("problem").append(button);
}

// The server counts images; a person knows them by name.
function inWords(error) {
  const capital = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  const message = capital.replace(/^Image (\d+)\b/, (whole, number) => photographs[number - 1]?.file.name ?? whole);
  return message.endsWith(".") ? message : `${message}.`;
}

// ---- showing the answer ----

function showAnswer(answer) {
  const { taxakey: own, results } = answer;
  const best = results[0];
  const decision = own.decision;
  const unsure = decision ? decision.rank !== "species" || decision.unknown === true || decision.organism === false : own.unsure;
  element("slip").classList.toggle("unsure", unsure);
  element("answer").classList.toggle("unsure-answer", unsure);
  element("statement").replaceChildren(...statement(best, own, decision));
  const named = decision ? results.find((result) => decision.rank === "species" && nameOf(result) === decision.name) : own.unsure ? null : best;
  element("common").textContent = named ? named.species.commonNames.join(", ") : "";
  element("possible").replaceChildren(...(decision?.coverage ? possible(decision) : []));
  // A threshold of 1 was reached by nothing; the sentence of the server says so itself.
  const called = own.unsure && own.calibrated && own.unsureBelow < 1 ? `Answers below ${percent(own.unsureBelow)} are called unsure. ` : "";
  element("explanation").textContent = own.decisionMeaning ?? called + own.meaning;
  showRestriction(own);
  const averaged = photographs.length > 1 ? `, mean of ${photographs.length} photographs` : "";
  element("signed").textContent = `det. Taxakey ${answer.version}, ${new Date().toISOString().slice(0, 10)}${averaged}`;
  showPoison(own.poisonousProbability);
  element("species").replaceChildren(...results.map((result) => speciesRow(result, own.poisonousSpecies)));
  element("genera").replaceChildren(...own.genera.slice(0, 3).map((genus) => row(make("em", "", genus.name), genus.family, genus.probability)));
  element("families").replaceChildren(...own.families.slice(0, 3).map((family) => row(make("span", "upright", family.name), "", family.probability)));
  showMore(false, results.length);
  document.querySelector("main").classList.add("answered");
  element("identify").hidden = true; // the same photographs would get the same answer
  element("again").className = "primary";
  element("again").textContent = "Next specimen";
  element("answer").hidden = false;
  status(`Done. ${element("statement").textContent}`);
  element("statement").focus({ preventScroll: true });
  if (element("answer").getBoundingClientRect().bottom > window.innerHeight) element("slip").scrollIntoView({ block: "start" });
}

const nameOf = (result) => result.species.scientificNameWithoutAuthor;

function statement(best, own, decision) {
  if (!decision) return own.unsure ? unsureStatement(best, own) : sureStatement(best);
  const doubt = decision.organism === false ? ["No organism that this model knows can be made out.", " "]
    : decision.unknown ? ["Perhaps a species that this model doesn't know.", " "] : [];
  return [...doubt.slice(0, 1).map((text) => make("span", "doubt", text)), ...doubt.slice(1), ...decided(best, decision)];
}

// The sentences of `Decision.sentence`, with the name in italics and its share.
function decided(best, decision) {
  const name = make(decision.rank === "family" ? "span" : "em", "", decision.name ?? "");
  const share = make("span", "share", percent(decision.probability ?? 0));
  if (decision.rule === "least-cost") return ["The answer that is expected to cost least: ", name, ", ", share, "."];
  if (decision.rank === "genus") return [`This is ${/^[AEIOU]/.test(decision.name) ? "an" : "a"} `, name, ", ", share, "; which one can't be said."];
  if (decision.rank === "family") return ["This is one of the ", name, ", ", share, "; which genus can't be said."];
  if (decision.rank !== "species") {
    const guess = [make("em", "", nameOf(best)), ", has ", make("span", "share", percent(best.score)), "."];
    return ["What it is can't be said, not even its family. The best guess, ", ...guess];
  }
  const family = nameOf(best) === decision.name ? best.species.family.scientificNameWithoutAuthor : "";
  return ["This looks like ", name, family ? ` (${family}), ` : ", ", share, "."];
}

// The set of species that holds the right one as often as was promised.
function possible(decision) {
  const often = `${Math.round(100 * decision.coverage)}\u00a0%`;
  if (!decision.possible_count) return [`No species fits well enough for a set that holds the right one ${often} of the time.`];
  const names = decision.possible.flatMap((name, place) => [place ? ", " : "", make("em", "", name)]);
  const more = decision.possible_count - decision.possible.length;
  return [`Sets like this hold the right species ${often} of the time: `, ...names, more > 0 ? ` and ${more.toLocaleString("en")} more.` : "."];
}

function showRestriction(own) {
  element("restriction").hidden = !own.restriction;
  if (!own.restriction) return;
  const doubt = own.inside < TELLING ? " Most of it lay on other species: perhaps it is one of those." : "";
  element("restriction").textContent = `${own.restriction} Before, they had ${percent(own.inside)} of the probability.${doubt}`;
}

function sureStatement(best) {
  const family = best.species.family.scientificNameWithoutAuthor;
  return ["This looks like ", make("em", "", best.species.scientificNameWithoutAuthor), family ? ` (${family}), ` : ", ",
    make("span", "share", percent(best.score)), "."];
}

function unsureStatement(best, own) {
  const said = [make("span", "doubt", "Not sure."), " The best guess, ", make("em", "", best.species.scientificNameWithoutAuthor),
    ", has ", make("span", "share", percent(best.score))];
  const genus = own.genera[0];
  const family = own.families[0];
  if (genus?.probability >= TELLING) said.push("; the genus ", make("em", "", genus.name), " has ", make("span", "share", percent(genus.probability)), ".");
  else if (family?.probability >= TELLING) said.push(`; the family ${family.name} has `, make("span", "share", percent(family.probability)), ".");
  else said.push("; no genus or family stands out either.");
  return said;
}

function showPoison(probability) {
  const notable = probability !== null && probability >= NOTABLE_POISON;
  element("poison").hidden = !notable;
  if (notable) {
    element("poison").textContent = `Poisonous species make up ${percent(probability)} of this answer: don't taste it, and keep it from children and animals.`;
  }
}

function speciesRow(result, poisonous) {
  const { species, score } = result;
  const name = species.scientificNameWithoutAuthor;
  const names = [make("em", "", name)];
  if (species.scientificNameAuthorship) names.push(" ", make("span", "author", species.scientificNameAuthorship));
  if (poisonous.includes(name)) names.push(" ", make("span", "tag", "poisonous"));
  const below = [species.family.scientificNameWithoutAuthor, ...species.commonNames].filter(Boolean).join(" · ");
  return row(names, below, score);
}

function row(names, below, probability) {
  const label = make("span", "names", ...[names].flat());
  if (below) label.append(make("span", "below", below));
  const fill = make("span", "fill");
  fill.style.width = `${100 * probability}%`;
  const track = make("span", "track", fill);
  track.setAttribute("aria-hidden", "true");
  return make("li", "taxon", label, make("span", "percent", percent(probability)), track);
}

function showMore(all, results) {
  [...element("species").children].forEach((item, position) => { item.hidden = !all && position >= SHOWN; });
  const button = element("more");
  button.hidden = results <= SHOWN;
  button.textContent = all ? "Show fewer" : `Show ${results - SHOWN} more`;
  button.setAttribute("aria-expanded", String(all));
  button.onclick = () => showMore(!all, results);
}

// ---- the model's facts ----

async function introduce() {
  try {
    const facts = await (await fetch("/health")).json();
    project = facts.project;
    Object.assign(limits, facts.limits);
    offerFields(facts);
    element("most").textContent = limits.images;
    element("limits").textContent = `JPEG, PNG, WebP, TIFF; up to ${megabytes(limits.imageBytes).replace(".0", "")} each`;
    const species = count(facts.species, "species", "species");
    const higher = `${count(facts.genera, "genus", "genera")}, ${count(facts.families, "family", "families")}`;
    element("scope").textContent = `knows ${species}`;
    const calibrated = facts.calibrated ? "calibrated" : "not calibrated";
    const strangers = facts.flagsUnknown ? "A species that it doesn't know may be named wrongly." : "A species that it doesn't know is always named wrongly.";
    const restriction = [facts.restriction, facts.shares].filter(Boolean).map((said) => `${said} `).join("");
    element("facts").textContent = `${restriction}Model ${facts.modelFingerprint}: ${species}, ${higher}; ${calibrated}. Taxakey ${facts.version}. ` +
      `${strangers} Photographs are not kept.`;
  } catch {
    problems("The server doesn't answer; start it again and reload this page.");
  }
}

// ---- events ----

element("ask").addEventListener("submit", identify);
element("again").addEventListener("click", startOver);
element("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // choosing the same file again must count as a change
});
document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length && !element("files").disabled) add(event.clipboardData.files); });
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); element("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) element("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  if (event.dataTransfer?.files.length && !element("files").disabled) add(event.dataTransfer.files);
});
introduce();
