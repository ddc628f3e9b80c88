"use strict";
(() => {
  const PAGE = 60; // cards added at once
  const OUTCOMES = { fooled: "fooled", resisted: "resisted", wrong: "wrong when clean" };
  const byId = (id) => document.getElementById(id);
  if (!byId("data")) return; // a report without cases
  const data = JSON.parse(byId("data").textContent);
  const cases = data.cases;
  const collator = new Intl.Collator("en", { numeric: true });

  // ---- what is known of a case, as one model judges it

  function judged(item, model) {
    const targets = data.runs[item.run].targets;
    const [clean, cleanScore, adversarial, adversarialScore] = item.judged[targets.indexOf(model)];
    let outcome = "resisted";
    if (clean !== item.label) outcome = "wrong";
    else if (adversarial !== item.label) outcome = "fooled";
    return { clean, cleanScore, adversarial, adversarialScore, outcome };
  }

  // The model chosen, or the one that the attack was made on; null where it did not judge.
  function judgement(item) {
    const run = data.runs[item.run];
    const model = controls.judge.value || run.source;
    return run.targets.includes(model) ? judged(item, model) : null;
  }

  const base = (file) => file.slice(file.lastIndexOf("/") + 1);
  const runName = (run) => `${run.attack} on ${run.source}`;

  // ---- filters and order

  const controls = {};
  for (const id of ["text", "run", "label", "judge", "outcome", "sort", "order"]) {
    controls[id] = byId(id) || { value: "" };
  }

  function options(select, values, texts = values) {
    values.forEach((value, i) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = texts[i];
      select.append(option);
    });
  }
  const distinct = (values) => [...new Set(values)];
  options(controls.label, distinct(cases.map((item) => item.label)).sort(collator.compare));
  if (byId("judge")) options(controls.judge, distinct(data.runs.flatMap((run) => run.targets)));
  if (byId("run")) options(controls.run, data.runs.map((_, i) => String(i)), data.runs.map(runName));

  let shown = []; // indices of the cases that pass, in order
  let drawn = 0; // how many of them have a card

  function update() {
    const text = controls.text.value.trim().toLowerCase();
    const { run, label, outcome, sort } = controls;
    const direction = Number(controls.order.value);
    const keys = new Map();
    shown = [];
    cases.forEach((item, i) => {
      if (text && !item.file.toLowerCase().includes(text)) return;
      if (run.value && item.run !== Number(run.value)) return;
      if (label.value && item.label !== label.value) return;
      const found = judgement(item);
      if (!found || (outcome.value && found.outcome !== outcome.value)) return;
      keys.set(i, sort.value === "score" ? found.cleanScore - found.adversarialScore : item.change);
      shown.push(i);
    });
    const compare = sort.value === "file"
      ? (a, b) => collator.compare(base(cases[a].file), base(cases[b].file))
      : (a, b) => keys.get(a) - keys.get(b);
    shown.sort((a, b) => direction * compare(a, b) || a - b);
    byId("count").textContent = `${shown.length} of ${cases.length} cases`;
    byId("gallery").replaceChildren();
    drawn = 0;
    more();
  }

  // ---- cards

  // Shows some neighbouring panels of a case's picture in the frame around `img`.
  function crop(img, item, letter, count = 1) {
    const [width, height] = item.size;
    const pitch = width + 2 * data.gutter;
    const visible = count * pitch - 2 * data.gutter;
    const offset = item.panels.indexOf(letter) * pitch + data.gutter;
    img.parentElement.style.aspectRatio = `${visible} / ${height}`;
    img.style.width = `${(100 * item.panels.length * pitch) / visible}%`;
    img.style.left = `${(-100 * offset) / visible}%`;
    img.src = item.src;
  }

  function badge(element, outcome) {
    element.className = `badge ${outcome}`;
    element.textContent = OUTCOMES[outcome];
  }

  function card(position) {
    const item = cases[shown[position]];
    const found = judgement(item);
    const entry = byId("card").content.cloneNode(true);
    const img = entry.querySelector("img");
    img.alt = `Clean and attacked image ${item.file}`;
    crop(img, item, "c", 2);
    entry.querySelector(".name").textContent = base(item.file);
    if (data.runs.length > 1) entry.querySelector(".run").textContent = runName(data.runs[item.run]);
    entry.querySelector(".change").textContent = `${item.label}: P ${found.cleanScore.toFixed(2)} → ${
      found.adversarialScore.toFixed(2)}`;
    badge(entry.querySelector(".badge"), found.outcome);
    entry.querySelector("button").addEventListener("click", () => open(position));
    return entry;
  }

  function more() {
    const end = Math.min(drawn + PAGE, shown.length);
    const added = document.createDocumentFragment();
    for (; drawn < end; drawn++) added.append(card(drawn));
    byId("gallery").append(added);
    const left = shown.length - drawn;
    byId("more").hidden = left === 0;
    byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  }
  const cardAt = (position) => byId("gallery").children[position].querySelector("button");

  // ---- one case

  const dialog = byId("case");
  const split = byId("split");
  let current = 0; // its position among those shown

  function open(position) {
    show(position);
    dialog.showModal();
    byId("case-title").focus();
  }

  function show(position) {
    current = position;
    const item = cases[shown[position]];
    byId("case-title").textContent = base(item.file);
    byId("case-place").textContent = `${position + 1} of ${shown.length}, true class ${item.label}`
      + (data.runs.length > 1 ? `, ${runName(data.runs[item.run])}` : "");
    const first = document.activeElement === byId("previous") && position === 0;
    const last = document.activeElement === byId("next") && position === shown.length - 1;
    if (first || last) byId("case-title").focus(); // a disabled button would lose the focus
    byId("previous").disabled = position === 0;
    byId("next").disabled = position === shown.length - 1;

    byId("clean").alt = `Clean image ${item.file}`;
    byId("adversarial").alt = `Attacked image ${item.file}`;
    crop(byId("clean"), item, "c");
    crop(byId("adversarial"), item, "a");
    const [low, high] = item.field || [1, 1];
    map("field", item, "f", `${short(low)} to ${short(high)}`, "Bias field",
      (low < 0.999 / item.reach ? "≤ " : "") + (1 / item.reach).toFixed(2),
      (high > 1.001 * item.reach ? "≥ " : "") + item.reach.toFixed(2));
    map("difference", item, "d", `up to ${item.change.toFixed(3)}`, "Attacked minus clean image",
      `−${item.span.toFixed(3)}`, item.span.toFixed(3));
    map("map", item, "s", "where the attack works", "Sensitivity map over the image", "0", "1");

    const targets = data.runs[item.run].targets;
    byId("judged").replaceChildren(...targets.map((model) => row(model, judged(item, model))));
    facts({
      file: item.file,
      "true class": item.label,
      "largest change of a pixel": item.change.toFixed(4),
      "mean change": item.mean.toFixed(4),
    });
  }

  function short(value) {
    const plain = value >= 0.01 && value < 1000;
    return plain ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("-", "−");
  }

  function map(id, item, letter, note, alt, low, high) {
    const figure = byId(id);
    figure.hidden = !item.panels.includes(letter);
    if (figure.hidden) return;
    const img = figure.querySelector("img");
    img.alt = `${alt} of ${item.file}, ${note}`;
    crop(img, item, letter);
    figure.querySelector("small").textContent = note;
    const ends = figure.querySelectorAll(".ends i");
    ends[0].textContent = low;
    ends[2].textContent = high;
  }

  function row(model, found) {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = model;
    line.append(head);
    for (const [text, score] of [[found.clean, found.cleanScore],
      [found.adversarial, found.adversarialScore]]) {
      const probability = document.createElement("span");
      probability.textContent = score.toFixed(4);
      const data = document.createElement("td");
      data.append(text, probability);
      line.append(data);
    }
    const outcome = document.createElement("td");
    const mark = document.createElement("span");
    badge(mark, found.outcome);
    outcome.append(mark);
    line.append(outcome);
    return line;
  }

  function facts(values) {
    byId("facts").replaceChildren(...Object.entries(values).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }));
  }

  function move(by) {
    const position = current + by;
    if (position >= 0 && position < shown.length) show(position);
  }

  // ---- the line between the clean and the attacked image

  const pictures = byId("pictures");

  function slide() {
    pictures.style.setProperty("--split", `${split.value}%`);
    split.setAttribute("aria-valuetext", `${split.value} % clean, ${100 - split.value} % attacked`);
  }

  function drag(event) {
    if (!event.buttons) return;
    const { left, width } = pictures.getBoundingClientRect();
    split.value = String(Math.round((100 * (event.clientX - left)) / width));
    slide();
  }

  // ---- who listens to what

  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  controls.text.addEventListener("input", update);
  controls.sort.addEventListener("change", () => { // before update: the form listens further out
    controls.order.value = controls.sort.value === "file" ? "1" : "-1";
  });
  byId("filters").addEventListener("change", (event) => {
    if (event.target !== controls.text) update(); // its own comes when one leaves it for a card
  });
  byId("more").addEventListener("click", () => {
    const first = drawn;
    more();
    cardAt(first).focus();
  });
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the dimmed page around it
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target === split || event.target.closest(".wide")) return; // which they move
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("close", () => { // back to the card of the case that was open
    while (drawn <= current) more();
    cardAt(current).focus();
  });
  split.addEventListener("input", slide);
  pictures.addEventListener("pointerdown", (event) => {
    pictures.setPointerCapture(event.pointerId);
    event.preventDefault(); // no dragging of the picture itself
    drag(event);
  });
  pictures.addEventListener("pointermove", drag);

  slide();
  update();
})();
