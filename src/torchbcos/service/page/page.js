"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (query) => [...document.querySelectorAll(query)];
  const make = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
  const number = (x, digits = 2) => (x === null || x === undefined ? "\u2013" : (x < 0 ? "\u2212" : "") + Math.abs(x).toFixed(digits));
  const signed = (x, digits = 2) => (x > 0 ? "+" : "") + number(x, digits);
  const percent = (x) => (x === null ? "\u2013" : x >= 0.995 ? "100 %" : x < 0.01 ? "< 1 %" : `${Math.round(100 * x)} %`);

  // -- the service -----------------------------------------------------------------------------------------------------
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  const token = sessionStorage.getItem("token");
  let models = [];
  let working = 0;

  async function ask(path, options = {}, kind = "json") {
    const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...options.headers };
    working += 1;
    $("status").textContent = options.words || "Working \u2026";
    try {
      const answer = await fetch(path, { ...options, headers });
      if (!answer.ok) {
        const said = await answer.json().catch(() => ({}));
        throw new Error(said.error || `The service answers ${answer.status}.`);
      }
      return kind === "json" ? await answer.json() : await answer.blob();
    } catch (error) {
      throw error instanceof TypeError ? new Error("The service does not answer: does it still run?") : error;
    } finally {
      working -= 1;
      if (!working) $("status").textContent = "";
    }
  }
  const say = (error) => { $("error").textContent = error ? error.message || error : ""; };
  const guarded = (work) => async (...values) => {
    say("");
    try { await work(...values); } catch (error) { say(error); }
  };
  const form = (photo, masks = []) => {
    const body = new FormData();
    body.append("picture", photo.file, "picture");
    masks.forEach((mask, i) => body.append(`mask${i + 1}`, mask, "mask.png"));
    return body;
  };
  function save(data, name) {
    const link = make("a", "", { href: URL.createObjectURL(data), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  const query = (values) => {
    const found = new URLSearchParams();
    // before the list of models is there, no model is named: the first one answers
    for (const [key, value] of Object.entries({ model: $("model").value, ...values })) if (value !== "" && value !== null && value !== undefined) found.append(key, value);
    return `?${found}`;
  };

  // -- what is shown ---------------------------------------------------------------------------------------------------
  const photos = [];
  let photo = null; // the one that is looked at
  let cursor = null;
  const words = {
    contributions: "W(x)\u00b7x of every pixel: red speaks for the class, blue against it.",
    explanation: "The weights W(x): the colour that they look for, as opaque as they are large; only where they speak for the class.",
    overlay: "Contributions over the photo in grey.",
    photo: "What the network saw, cut to its size.",
  };
  const view = () => document.querySelector("input[name=view]:checked").value;

  function decoded(maps) {
    const bytes = Uint8Array.from(atob(maps.contributions), (c) => c.charCodeAt(0));
    return { width: maps.width, height: maps.height, values: new Float32Array(bytes.buffer) };
  }
  const image = (text) => new Promise((done, failed) => {
    const found = new Image();
    found.onload = () => done(found);
    found.onerror = () => failed(new Error("A picture of the answer cannot be read."));
    found.src = `data:image/png;base64,${text}`;
  });

  // means over squares of `side` pixels, at the border over those that there are
  function smoothed({ width, height, values }, side) {
    if (side < 2) return values;
    const sums = new Float64Array((width + 1) * (height + 1));
    for (let y = 0; y < height; y++) {
      let row = 0;
      for (let x = 0; x < width; x++) {
        row += values[y * width + x];
        sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
      }
    }
    const half = side >> 1;
    const out = new Float32Array(values.length);
    for (let y = 0; y < height; y++) {
      const [top, bottom] = [Math.max(0, y - half), Math.min(height, y + half + 1)];
      for (let x = 0; x < width; x++) {
        const [left, right] = [Math.max(0, x - half), Math.min(width, x + half + 1)];
        const sum = sums[bottom * (width + 1) + right] - sums[top * (width + 1) + right] - sums[bottom * (width + 1) + left] + sums[top * (width + 1) + left];
        out[y * width + x] = sum / ((bottom - top) * (right - left));
      }
    }
    return out;
  }

  // blue (33, 102, 172), white, red (178, 24, 43): told apart by every kind of eye
  function colours(values, width, height, alpha) {
    const sizes = Float32Array.from(values, Math.abs).sort();
    const top = sizes[Math.floor(0.995 * (sizes.length - 1))] || 1;
    const found = new ImageData(width, height);
    for (let i = 0; i < values.length; i++) {
      const t = Math.min(1, Math.abs(values[i]) / top);
      const [r, g, b] = values[i] > 0 ? [178, 24, 43] : [33, 102, 172];
      found.data.set(alpha ? [r, g, b, 255 * t] : [255 + t * (r - 255), 255 + t * (g - 255), 255 + t * (b - 255), 255], 4 * i);
    }
    return { found, top };
  }
  function drawnMap(values, width, height, alpha) {
    const { found, top } = colours(values, width, height, alpha);
    const canvas = make("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(found, 0, 0);
    return { canvas, top };
  }

  function draw() {
    if (!photo || !photo.map) return;
    const { width, height } = photo.map;
    const canvas = $("view");
    const pen = canvas.getContext("2d");
    [canvas.width, canvas.height] = [width, height];
    $("stage").style.aspectRatio = `${width} / ${height}`;
    const side = Number($("smooth").value);
    photo.smooth = smoothed(photo.map, side);
    const how = view();
    const opacity = Number($("opacity").value) / 100;
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    const { canvas: map, top } = drawnMap(photo.smooth, width, height, how === "overlay");
    if (how === "photo" || how === "overlay") {
      pen.filter = how === "overlay" ? "grayscale(1)" : "none";
      pen.globalAlpha = how === "overlay" ? 0.6 : opacity;
      pen.drawImage(photo.seen, 0, 0);
      pen.filter = "none";
    }
    pen.globalAlpha = opacity;
    if (how === "explanation") pen.drawImage(photo.rgba, 0, 0);
    if (how === "contributions" || how === "overlay") pen.drawImage(map, 0, 0);
    pen.globalAlpha = 1;
    $("view-words").textContent = words[how];
    const label = photo.shown.label;
    canvas.setAttribute("aria-label", `${how}, ${photo.name}, for ${label}`);
    $("scale-low").textContent = number(-top, 4);
    $("scale-high").textContent = number(top, 4);
    $("smooth-said").textContent = side === 1 ? "1 pixel" : `${side} pixels`;
    $("opacity-said").textContent = `${$("opacity").value} %`;
    drawBrush();
  }

  function drawBrush() {
    const { width, height } = photo.map;
    const canvas = $("brush");
    const pen = canvas.getContext("2d");
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    pen.clearRect(0, 0, width, height);
    pen.globalAlpha = 0.45;
    pen.drawImage(photo.mask, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#7b3fa0";
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "source-over";
    pen.globalAlpha = 1;
    if (cursor) {
      pen.strokeStyle = "#000";
      pen.strokeRect(cursor.x - 2.5, cursor.y - 2.5, 6, 6);
      pen.strokeStyle = "#fff";
      pen.strokeRect(cursor.x - 3.5, cursor.y - 3.5, 8, 8);
    }
  }

  function showClasses() {
    const list = $("classes");
    list.replaceChildren(...photo.record.predictions.map((row) => {
      const item = make("li");
      const button = make("button", "", { type: "button" });
      button.setAttribute("aria-pressed", String(row.index === photo.shown.index && !photo.shown.at));
      const bar = make("span", "", { className: "bar" });
      const fill = make("span");
      fill.style.width = `${100 * row.probability}%`;
      bar.append(fill);
      button.append(make("span", row.label), make("span", percent(row.probability), { className: "number" }), bar);
      button.addEventListener("click", guarded(async () => { $("class").value = row.label; await explain(); }));
      item.append(button);
      return item;
    }));
    $("undecided").hidden = !photo.record.undecided;
  }

  function showSum() {
    const e = photo.shown;
    const rows = [["pixels", "the pixels", e.contribution], ...Object.entries(e.constants).map(([name, value]) => ["constant", name, value]), ["residual", "residual", e.residual]];
    const whole = rows.reduce((sum, row) => sum + Math.abs(row[2]), 0) || 1;
    $("sum").replaceChildren(...rows.map(([kind, , value]) => {
      const part = make("span", "", { className: kind });
      part.style.width = `${(100 * Math.abs(value)) / whole}%`;
      return part;
    }));
    const list = [];
    const add = (name, value) => list.push(make("dt", name), make("dd", value));
    add("logit", number(e.value));
    for (const [kind, name, value] of rows) add(name, kind === "residual" ? value.toExponential(0).replaceAll("-", "\u2212") : number(value));
    if (e.share !== null) add("share of the pixels", percent(e.share));
    $("parts").replaceChildren(...list);
    $("sum").setAttribute("aria-label", `logit ${number(e.value)} = ${rows.map(([, name, value]) => `${name} ${number(value)}`).join(" + ")}`);
    const missing = e.complete === false ? photo.record.warning || "This explanation does not add up: do not trust it." : "";
    $("warning").textContent = missing;
    $("warning").hidden = !missing;
  }

  function showSteps() {
    const table = $("steps");
    table.hidden = !photo.steps.length;
    table.tBodies[0].replaceChildren(...photo.steps.map(({ words: what, change, sees }) => {
      const row = make("tr");
      row.append(make("td", what), make("td", signed(change.predicted)), make("td", signed(change.real)), make("td", number(change.after)), make("td", `${sees.label} ${percent(sees.probability)}`));
      return row;
    }));
    $("steps-class").textContent = photo.steps.length ? photo.steps[0].change.label : "";
    $("undo").disabled = !photo.steps.length;
  }

  async function take(record, shown) {
    [photo.record, photo.shown] = [record, shown];
    photo.map = decoded(shown.maps);
    [photo.seen, photo.rgba] = await Promise.all([image(shown.maps.photo), image(shown.maps.rgba)]);
    if (photo.mask.width !== photo.map.width || photo.mask.height !== photo.map.height) clearMask();
    $("asked").textContent = shown.at ? shown.label : shown.contrast ? `${shown.label} rather than ${shown.contrast.label}` : shown.label;
    $("result").hidden = false;
    showClasses();
    showSum();
    showSteps();
    draw();
  }

  // -- photos ----------------------------------------------------------------------------------------------------------
  const maskPen = () => photo.mask.getContext("2d", { willReadFrequently: true });
  function clearMask() {
    [photo.mask.width, photo.mask.height] = [photo.map.width, photo.map.height];
    photo.brushed = false;
  }

  async function explain(values = {}) {
    const asked = { class: $("class").value.trim(), contrast: $("contrast").value.trim(), smooth: $("smooth").value, ...values };
    const mine = photo;
    const record = await ask(`/v1/explain${query({ ...asked, maps: "true" })}`, { method: "POST", body: form(photo), words: `Explaining ${photo.name} \u2026` });
    if (photo !== mine) return;
    photo.steps = [];
    await take(record, record.explanations[0]);
    if (!$("layer").options.length) await learn();
  }

  async function choose(next) {
    photo = next;
    all("#strip button").forEach((button, i) => button.setAttribute("aria-current", String(photos[i] === photo)));
    $("others").replaceChildren();
    $("brushed").textContent = "";
    cursor = null;
    if (photo.record) await take(photo.record, photo.shown);
    else {
      $("class").value = $("contrast").value = "";
      await explain();
      $("result").focus({ preventScroll: true });
    }
  }

  const add = guarded(async (files) => {
    let first = null;
    for (const file of files) {
      const next = { file, name: file.name || "photo", mask: make("canvas"), steps: [], brushed: false };
      photos.push(next);
      first = first || next;
      const button = make("button", "", { type: "button", title: next.name });
      const thumb = make("img", "", { alt: next.name, src: URL.createObjectURL(file) });
      button.append(thumb);
      button.addEventListener("click", guarded(() => choose(next)));
      const item = make("li");
      item.append(button);
      $("strip").append(item);
    }
    if (first) await choose(first);
  });

  // -- pointing and brushing -------------------------------------------------------------------------------------------
  function tell({ x, y }) {
    const { width, values } = photo.map;
    const side = Number($("smooth").value);
    const here = photo.smooth[y * width + x];
    const word = here > 0 ? "for" : "against";
    $("spot").textContent = `Place ${x}, ${y}: ${signed(values[y * width + x], 4)} of the logit${side > 1 ? `, ${signed(here, 4)} in the mean of ${side} \u00d7 ${side} pixels` : ""}: ${word} ${photo.shown.label}.`;
  }
  function paint({ x, y }) {
    const pen = maskPen();
    pen.fillStyle = "#fff";
    pen.beginPath();
    pen.arc(x + 0.5, y + 0.5, Number($("size").value) / 2, 0, 7);
    pen.fill();
    photo.brushed = true;
    drawBrush();
    sayBrushed();
  }
  function masked() {
    const { width, height } = photo.map;
    return maskPen().getImageData(0, 0, width, height).data;
  }
  function sayBrushed() {
    const data = masked();
    let [sum, count] = [0, 0];
    for (let i = 0; i < photo.map.values.length; i++) if (data[4 * i + 3] > 127) { sum += photo.map.values[i]; count += 1; }
    $("brushed").textContent = `Brushed: ${percent(count / photo.map.values.length)} of the picture; it adds ${signed(sum)} to a logit of ${number(photo.shown.value)}.`;
  }
  function place(event) {
    const box = $("view").getBoundingClientRect();
    const { width, height } = photo.map;
    const fit = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value * most)));
    return { x: fit((event.clientX - box.left) / box.width, width), y: fit((event.clientY - box.top) / box.height, height) };
  }
  $("view").addEventListener("pointerdown", (event) => {
    if (!photo || !photo.map) return;
    $("view").setPointerCapture(event.pointerId);
    cursor = place(event);
    paint(cursor);
  });
  $("view").addEventListener("pointermove", (event) => {
    if (!photo || !photo.map) return;
    const here = place(event);
    tell(here);
    if (event.buttons) { cursor = here; paint(here); }
  });
  $("view").addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!photo || !photo.map || !(event.key in ways || event.key === " ")) return;
    event.preventDefault();
    const { width, height } = photo.map;
    cursor = cursor || { x: width >> 1, y: height >> 1 };
    if (event.key === " ") paint(cursor);
    else {
      const far = event.shiftKey ? 16 : 4;
      const [dx, dy] = ways[event.key];
      cursor = { x: Math.max(0, Math.min(width - 1, cursor.x + far * dx)), y: Math.max(0, Math.min(height - 1, cursor.y + far * dy)) };
      drawBrush();
    }
    tell(cursor);
  });

  // -- questions -------------------------------------------------------------------------------------------------------
  function maskFile() {
    const { width, height } = photo.map;
    const flat = make("canvas");
    [flat.width, flat.height] = [width, height];
    const pen = flat.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(photo.mask, 0, 0);
    return new Promise((done) => flat.toBlob(done, "image/png"));
  }
  async function run(steps) {
    const asked = { class: photo.target, steps: steps.map((step) => step.word).join(","), smooth: $("smooth").value };
    const record = await ask(`/v1/change${query(asked)}`, { method: "POST", body: form(photo, steps.map((step) => step.mask)), words: "Running the network again \u2026" });
    return record;
  }
  const change = (how) => guarded(async () => {
    if (!photo || !photo.map) return;
    if (!photo.brushed) throw new Error("Brush over a part of the picture first: with the pointer, or with arrow keys and space.");
    if (photo.shown.at) throw new Error("This shows an inner feature: ask for a class first.");
    if (!photo.steps.length) {
      photo.target = photo.shown.index;
      photo.before = { record: photo.record, shown: photo.shown };
    }
    const way = $("way").value;
    const said = { grey: "grey", blur: "blurred", mean: "mean colour" }[way];
    const step = { word: `${way}:${how}`, mask: await maskFile(), words: how === "keep" ? `only this, rest ${said}` : `removed, ${said}` };
    const record = await run([...photo.steps, step]);
    const steps = [...photo.steps, { ...step, change: record.change, sees: record.predictions[0], record }];
    clearMask();
    photo.steps = steps;
    $("brushed").textContent = `Predicted ${signed(record.change.predicted)}, really ${signed(record.change.real)}: the logit of ${record.change.label} is now ${number(record.change.after)}.`;
    await take(record, record.explanations[0]);
  });
  $("remove").addEventListener("click", change("remove"));
  $("keep").addEventListener("click", change("keep"));
  $("clear").addEventListener("click", () => { if (photo && photo.map) { clearMask(); $("brushed").textContent = ""; drawBrush(); } });
  $("undo").addEventListener("click", guarded(async () => {
    photo.steps = photo.steps.slice(0, -1);
    const last = photo.steps[photo.steps.length - 1];
    $("brushed").textContent = "The last step is undone.";
    if (last) await take(last.record, last.record.explanations[0]);
    else await take(photo.before.record, photo.before.shown);
  }));
  $("ask").addEventListener("click", guarded(() => photo && explain()));
  for (const id of ["class", "contrast"]) $(id).addEventListener("keydown", (event) => { if (event.key === "Enter") $("ask").click(); });

  for (const button of all("[data-method]")) {
    button.addEventListener("click", guarded(async () => {
      if (!photo) return;
      const label = photo.shown.at ? "" : photo.shown.label;
      const found = await ask(`/v1/compare${query({ class: label, method: button.dataset.method })}`, { method: "POST", body: form(photo), words: `${button.textContent} \u2026` });
      const map = decoded(found.maps);
      const figure = make("figure");
      const { canvas } = drawnMap(smoothed(map, Number($("smooth").value)), map.width, map.height, false);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${button.textContent} for ${found.label}`);
      figure.append(canvas, make("figcaption", `${button.textContent} for ${found.label}: ${found.passes} passes`));
      $("others").append(figure);
    }));
  }
  $("feature").addEventListener("click", guarded(async () => {
    if (!photo) return;
    const asked = { at: $("layer").value, channel: $("channel").value, smooth: $("smooth").value };
    const found = await ask(`/v1/feature${query(asked)}`, { method: "POST", body: form(photo), words: "Looking at the feature \u2026" });
    await take(photo.record, { ...found.explanations[0], at: found.at });
  }));
  for (const button of all("[data-save]")) {
    button.addEventListener("click", guarded(async () => {
      if (!photo) return;
      const kind = button.dataset.save;
      const accept = { png: "image/png", json: "application/json", npz: "application/x-npz", "proof.json": "application/x-torchbcos-proof" }[kind];
      const asked = { class: $("class").value.trim(), contrast: $("contrast").value.trim() };
      const data = await ask(`/v1/explain${query(asked)}`, { method: "POST", body: form(photo), headers: { Accept: accept }, words: "Preparing the file \u2026" }, "blob");
      save(data, `${photo.name.replace(/\.[^.]*$/, "")}-why.${kind}`);
    }));
  }

  // a page of its own that needs neither this one nor the service
  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const rows = (cells) => cells.map((row) => `<tr>${row.map((cell, i) => `<${i ? "td" : "th"}>${escaped(cell)}</${i ? "td" : "th"}>`).join("")}</tr>`).join("");
  function reported(one) {
    const e = one.shown;
    const { canvas } = drawnMap(smoothed(one.map, Number($("smooth").value)), one.map.width, one.map.height, false);
    const parts = [["photo", one.seen.src], ["explanation", one.rgba.src], ["contributions", canvas.toDataURL()]];
    const sum = [["logit", number(e.value)], ["the pixels", number(e.contribution)], ...Object.entries(e.constants).map(([name, value]) => [name, number(value)]),
      ["residual", e.residual === null ? "\u2013" : e.residual.toExponential(0)], ["share of the pixels", percent(e.share)]];
    const asked = e.at ? e.label : e.contrast ? `${e.label} rather than ${e.contrast.label}` : e.label;
    const steps = one.steps.map((step) => [step.words, signed(step.change.predicted), signed(step.change.real), number(step.change.after), step.sees.label]);
    const tried = steps.length ? `<h3>What was tried</h3><table><tr><th>step</th><th>predicted</th><th>real</th><th>logit after</th><th>it now sees</th></tr>${rows(steps)}</table>` : "";
    return `<section><h2>${escaped(one.name)}: why ${escaped(asked)}</h2><p>${one.record.predictions.slice(0, 5).map((row) => `${escaped(row.label)} ${percent(row.probability)}`).join(", ")}</p>
<div>${parts.map(([name, src]) => `<figure><img alt="${name}" src="${src}"><figcaption>${name}</figcaption></figure>`).join("")}</div><table>${rows(sum)}</table>${tried}</section>`;
  }
  $("report").addEventListener("click", guarded(async () => {
    const seen = photos.filter((one) => one.record && one.map);
    if (!seen.length) return;
    const style = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}div{display:flex;gap:.5rem}figure{margin:0;flex:1}img{width:100%;border:1px solid #ccc}"
      + "table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.15rem .8rem .15rem 0;text-align:left;font-weight:400}section{break-inside:avoid;margin-bottom:3rem}";
    const page = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Why</title><style>${style}</style></head><body><h1>Why</h1><p>Model: ${escaped($("model").value)}. Red speaks for the class, blue against it; contributions and constants add up to the logit. An explanation says how this network came to its answer, not that the answer is right.</p>
${seen.map(reported).join("\n")}</body></html>`;
    save(new Blob([page], { type: "text/html" }), "why.html");
  }));

  // -- controls --------------------------------------------------------------------------------------------------------
  for (const input of all("input[name=view]")) input.addEventListener("change", draw);
  $("opacity").addEventListener("input", draw);
  let waiting = 0;
  $("smooth").addEventListener("input", () => {
    draw();
    clearTimeout(waiting);
    if (view() === "explanation" && photo && !photo.steps.length && !photo.shown.at) waiting = setTimeout(guarded(() => explain()), 400);
  });
  $("size").addEventListener("input", () => { $("size-said").textContent = `${$("size").value} pixels`; });
  $("file").addEventListener("change", () => { add([...$("file").files]); $("file").value = ""; });
  addEventListener("paste", (event) => add([...event.clipboardData.files].filter((file) => file.type.startsWith("image/"))));
  for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop") add([...event.dataTransfer.files]);
  });

  let stream = null;
  const stop = () => { if (stream) for (const track of stream.getTracks()) track.stop(); stream = null; };
  $("camera").addEventListener("click", guarded(async () => {
    if (!navigator.mediaDevices) throw new Error("This browser gives a camera to pages of this machine and of https addresses alone.");
    try { stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }); } catch { throw new Error("There is no camera, or it may not be used."); }
    $("video").srcObject = stream;
    $("camera-box").showModal();
  }));
  $("camera-box").addEventListener("close", stop);
  $("camera-end").addEventListener("click", () => $("camera-box").close());
  $("shoot").addEventListener("click", () => {
    const video = $("video");
    const shot = make("canvas");
    [shot.width, shot.height] = [video.videoWidth, video.videoHeight];
    shot.getContext("2d").drawImage(video, 0, 0);
    shot.toBlob((data) => { $("camera-box").close(); add([new File([data], "camera.jpg", { type: "image/jpeg" })]); }, "image/jpeg", 0.92);
  });

  // -- models ----------------------------------------------------------------------------------------------------------
  function describe() {
    const model = models.find((one) => one.name === $("model").value);
    if (!model || !model.classes) return;
    $("names").replaceChildren(...model.classes.map((name) => make("option", "", { value: name })));
    $("layer").replaceChildren(...model.layers.map((name) => make("option", name)));
  }
  $("model").addEventListener("change", guarded(async () => {
    $("layer").replaceChildren();
    for (const one of photos) { one.record = null; one.steps = []; }
    if (photo) await choose(photo);
  }));
  async function learn() {
    models = (await ask("/v1/models", { words: "Opening the model \u2026" })).models;
    if (!$("model").options.length) {
      $("model").replaceChildren(...models.map((one) => make("option", one.name)));
      $("model-box").hidden = models.length < 2;
    }
    describe();
  }
  guarded(learn)();
})();
