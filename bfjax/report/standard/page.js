"use strict";
(() => {
  const PAGE = 12; // cases added at once
  const MOST = 1.4; // log-range at which sliders end, or else at twice the breaking range
  const NODES = [-1, -0.5, 0, 0.5, 1]; // from the first to the last pixel centre
  const byId = (id) => document.getElementById(id);
  if (!byId("data")) return; // a report without cases
  const data = JSON.parse(byId("data").textContent);
  const collator = new Intl.Collator("en", { numeric: true });

  // ---- the light: a polynomial of degree 4 in x and in y, from its values at the nodes (Lagrange)

  function weights(count) {
    return Array.from({ length: count }, (_, i) => {
      const x = count > 1 ? (2 * i) / (count - 1) - 1 : -1;
      return NODES.map((node, k) => NODES.reduce(
        (product, other, j) => (j === k ? product : (product * (x - other)) / (node - other)), 1));
    });
  }
  const inner = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

  function logField(nodes, width, height) {
    const across = weights(width);
    const field = new Float64Array(width * height);
    weights(height).forEach((down, y) => {
      const row = NODES.map((_, j) => inner(down, NODES.map((_, i) => nodes[NODES.length * i + j])));
      for (let x = 0; x < width; x++) field[y * width + x] = inner(across[x], row);
    });
    return field;
  }

  // Grey values, of 0 to 255, under a share of a light. Whoever stores them rounds and clips.
  function lit(grey, field, share, audit) {
    return audit.encoding === "log"
      ? grey.map((value, i) => value - 255 * audit.gamma * share * field[i])
      : grey.map((value, i) => value * Math.exp(share * field[i]));
  }

  // ---- pictures

  const loaded = new Map();
  function pixels(place) {
    if (!loaded.has(place)) loaded.set(place, read(data.images[place]));
    return loaded.get(place);
  }

  async function read(link) {
    const img = new Image();
    img.src = link;
    await img.decode();
    const [width, height] = [img.naturalWidth, img.naturalHeight];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(img, 0, 0);
    const rgba = context.getImageData(0, 0, width, height).data;
    return { width, height, grey: Float64Array.from({ length: width * height }, (_, i) => rgba[4 * i]) };
  }

  // `colour(i)` is the three channels of pixel i.
  function paint(canvas, width, height, colour) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const picture = new ImageData(width, height);
    picture.data.fill(255); // opaque
    for (let i = 0; i < width * height; i++) picture.data.set(colour(i), 4 * i);
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  const colours = data.colours.map((text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));

  // ---- one case

  const base = (file) => file.slice(file.lastIndexOf("/") + 1);
  const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
  const probability = (value) => (value < 0.0005 ? "< 0.001" : value.toFixed(3));
  const said = ([name, p]) => `${name}, P ${probability(p)}`;

  function card(item) {
    const entry = byId("card").content.cloneNode(true);
    const find = (selector) => entry.querySelector(selector);
    const name = base(item.file);
    find(".name").textContent = name;
    find(".told b").textContent = `Breaks at ${short(item.range)}`;
    find(".told span").textContent = `: ${item.words}.`;
    const answers = {
      "true class": item.label,
      "without light": said(item.clean),
      ...(item.turned ? { "at the mark": said(item.turned) } : {
        "at the mark": "wrong, how surely was not stored",
        [`worst found within ${short(item.tier)}`]: said(item.worst),
      }),
    };
    find(".answers").replaceChildren(...Object.entries(answers).flatMap(([term, text]) => {
      const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
      dt.textContent = term;
      dd.textContent = text;
      return [dt, dd];
    }));

    // a hundred steps to the breaking range, which is one of them
    const slider = find("input");
    const steps = Math.max(100, Math.min(200, Math.floor((100 * MOST) / item.range)));
    slider.max = String(steps);
    slider.value = "100";
    slider.setAttribute("aria-label", `Strength of the light on ${name}`);
    find(".strength").style.setProperty("--at", String(100 / steps));
    find(".mark").textContent = `breaks at ${short(item.range)}`;
    const strongest = (steps * item.range) / 100;
    find(".strength .ends i:last-child").textContent = short(strongest);
    live(item, slider, find(".lit"), find(".field"),
      find(".lit").nextElementSibling.querySelector("small"), find(".field").parentElement);
    return entry;
  }

  async function live(item, slider, picture, map, note, figure) {
    const name = base(item.file);
    const { width, height, grey } = await pixels(item.image);
    const field = logField(item.nodes, width, height);
    const audit = data.audits[item.audit];
    const [low, high] = field.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const span = Math.max(-low, high, 1e-6);
    const middle = (colours.length - 1) / 2;
    paint(map, width, height, (i) => colours[Math.round(middle * (1 + field[i] / span))]);
    const extent = `${short(low)} to ${short(high)}, a range of ${short(item.range)}`;
    figure.querySelector("small").textContent = `at the mark: ${extent}`;
    map.setAttribute("aria-label", `Log field of the light on ${name}, ${extent}`);
    const ends = figure.querySelectorAll(".ends i");
    [ends[0].textContent, ends[2].textContent] = [short(-span), short(span)];

    function show() {
      const step = Number(slider.value);
      const range = short((step * item.range) / 100);
      let where = "beyond its breaking range";
      if (step === 0) where = "no light";
      else if (step < 100) where = "below its breaking range";
      else if (step === 100) where = "its breaking range";
      const values = lit(grey, field, step / 100, audit);
      paint(picture, width, height, (i) => [values[i], values[i], values[i]]);
      note.textContent = step === 0 ? where : `of log-range ${range}, ${where}`;
      slider.setAttribute("aria-valuetext", `log-range ${range}, ${where}`);
      picture.setAttribute("aria-label", `${name} under light of log-range ${range}`);
    }
    slider.addEventListener("input", show);
    show();
  }

  // ---- which cases

  const controls = {};
  for (const id of ["model", "label", "text"]) controls[id] = byId(id) || { value: "" };
  const distinct = (values) => [...new Set(values)];

  function options(select, values, texts = values) {
    values.forEach((value, i) => select.append(new Option(texts[i], value)));
  }
  if (byId("model")) {
    options(controls.model, data.audits.map((_, i) => String(i)), data.audits.map((a) => a.name));
    controls.model.value = String(data.cases[0].audit); // the best one may have none
  }
  options(controls.label, distinct(data.cases.map((item) => item.label)).sort(collator.compare));

  let chosen = []; // the cases that pass
  let drawn = 0; // how many of them are there

  function update() {
    const text = controls.text.value.trim().toLowerCase();
    const ofModel = data.cases.filter((item) => !controls.model.value || item.audit === Number(controls.model.value));
    chosen = ofModel.filter((item) => (!controls.label.value || item.label === controls.label.value)
      && item.file.toLowerCase().includes(text)).sort((a, b) => a.range - b.range);
    byId("count").textContent = `${chosen.length} of ${ofModel.length} cases`;
    byId("lights").replaceChildren();
    drawn = 0;
    more();
  }

  function more() {
    const end = Math.min(drawn + PAGE, chosen.length);
    const added = document.createDocumentFragment();
    for (; drawn < end; drawn++) added.append(card(chosen[drawn]));
    byId("lights").append(added);
    const left = chosen.length - drawn;
    byId("more").hidden = left === 0;
    byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  }

  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  controls.text.addEventListener("input", update);
  byId("filters").addEventListener("change", (event) => {
    if (event.target !== controls.text) update();
  });
  byId("more").addEventListener("click", () => {
    const first = drawn;
    more();
    byId("lights").children[first].querySelector("input").focus();
  });
  update();
})();
