"use strict";
(function () {
  document.documentElement.classList.add("scripted");
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const views = data.views;
  const opened = {};
  const quiet = { displaylogo: false, responsive: true, displayModeBar: false };

  // Numbers of the views: one deflated buffer.
  async function inflate() {
    const packed = Uint8Array.from(atob(byId("arrays").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }
  let buffer = null;
  const KINDS = { int16: Int16Array, int8: Int8Array, uint16: Uint16Array, uint32: Uint32Array };
  const read = ([kind, start, count]) => new KINDS[kind](buffer, start, count);

  function unpack(entry) {
    if (entry.unpacked) return entry.unpacked;
    const found = {};
    const numbers = read(entry.points);
    ["x", "y", "z"].forEach((axis, place) => {
      const values = new Float32Array(numbers.length / 3);
      for (let i = 0; i < values.length; i++) values[i] = numbers[3 * i + place] * views.steps.coordinate;
      found[axis] = values;
    });
    if (entry.distance) found.distance = Float32Array.from(read(entry.distance), (d) => d * views.steps.distance);
    if (entry.faces) {
      const steps = read(entry.faces);
      const corners = new steps.constructor(steps.length);
      for (let i = 0, sum = 0; i < steps.length; i++) corners[i] = sum = (sum + steps[i]) & (steps.BYTES_PER_ELEMENT === 2 ? 0xffff : -1);
      ["i", "j", "k"].forEach((corner, place) => {
        found[corner] = Uint32Array.from({ length: corners.length / 3 }, (_, face) => corners[3 * face + place]);
      });
    }
    entry.unpacked = found;
    return found;
  }

  const GREY = "#aab4c2";
  const far = views.steps.far;
  const FAR_SCALE = [[0, GREY], [0.49, GREY], [0.51, "#d64d1a"], [1, "#d64d1a"]];
  function traces(entry, options) {
    if (!entry || !entry.points) return [];
    const u = unpack(entry);
    const common = { x: u.x, y: u.y, z: u.z, hoverinfo: "skip", showlegend: false };
    if (entry.faces) {
      const colour = options.far && u.distance
        ? { intensity: u.distance, cmin: 0, cmax: 2 * far, colorscale: FAR_SCALE, showscale: false }
        : { color: GREY };
      return [{ ...common, ...colour, type: "mesh3d", i: u.i, j: u.j, k: u.k, opacity: options.opacity || 1, flatshading: false,
        lighting: { ambient: 0.46, diffuse: 0.8, specular: 0.08, roughness: 0.8, fresnel: 0.02 },
        lightposition: { x: 3000, y: 9000, z: 3000 } }];
    }
    const scale = options.far
      ? { color: u.distance, cmin: 0, cmax: 2 * far, colorscale: [[0, "#2155a0"], [0.49, "#2155a0"], [0.51, "#d64d1a"], [1, "#d64d1a"]] }
      : u.distance
        ? { color: u.distance, cmin: data.distances.low, cmax: data.distances.high, colorscale: data.distances.scale }
        : { color: "#2155a0" };
    return [{ ...common, type: "scatter3d", mode: "markers", marker: { size: 1.6, line: { width: 0 }, ...scale } }];
  }

  const hidden = { visible: false, range: [-0.62, 0.62], autorange: false };
  const corner = 0.5;
  function cube() {
    const x = [], y = [], z = [];
    const s = [-corner, corner];
    const edge = (a, b) => { x.push(a[0], b[0], null); y.push(a[1], b[1], null); z.push(a[2], b[2], null); };
    for (const a of s) for (const b of s) {
      edge([-corner, a, b], [corner, a, b]); edge([a, -corner, b], [a, corner, b]); edge([a, b, -corner], [a, b, corner]);
    }
    return { x, y, z, type: "scatter3d", mode: "lines", line: { color: "#c9d2db", width: 1.5 }, hoverinfo: "skip", showlegend: false };
  }

  // A row of panels whose cameras move together.
  class Panels {
    constructor(place, count, two) {
      const away = two ? 1.14 : 1.24; // narrow panels need more room for the whole cube
      this.camera = { up: { x: 0, y: 1, z: 0 }, eye: { x: 0.98 * away, y: 0.68 * away, z: 1.17 * away }, center: { x: 0, y: 0, z: 0 } };
      this.root = document.createElement("div");
      this.root.className = two ? "panels two" : "panels";
      this.panels = Array.from({ length: count }, () => {
        const panel = document.createElement("div");
        panel.className = "panel";
        panel.innerHTML = "<h4></h4><div class='scene'></div><p></p>";
        this.root.append(panel);
        return panel;
      });
      place.append(this.root);
      this.moving = false;
    }
    show(index, title, shown, text) {
      const panel = this.panels[index];
      const scene = panel.querySelector(".scene");
      panel.querySelector("h4").textContent = title;
      panel.querySelector("p").textContent = text || "";
      const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#ffffff", uirevision: "kept",
        scene: { xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "cube", camera: this.camera, uirevision: "kept" } };
      const first = !scene.data;
      const drawn = Plotly.react(scene, [cube(), ...shown], layout, quiet);
      if (first) drawn.then(() => scene.on("plotly_relayout", (change) => this.follow(index, change)));
      return drawn;
    }
    follow(from, change) {
      const camera = change["scene.camera"];
      if (!camera || this.moving) return;
      this.moving = true;
      this.camera = camera;
      const others = this.panels.filter((panel, index) => index !== from && panel.querySelector(".scene").data);
      Promise.all(others.map((panel) => Plotly.relayout(panel.querySelector(".scene"), { "scene.camera": camera })))
        .finally(() => { this.moving = false; });
    }
  }

  function select(place, name, options, chosen, changed) {
    const label = document.createElement("label");
    label.textContent = name;
    const field = document.createElement("select");
    field.name = name;
    label.append(field);
    place.append(label);
    const fill = (texts, index) => {
      field.replaceChildren(...texts.map((text, value) => new Option(text, value)));
      field.value = index;
    };
    fill(options, chosen);
    field.addEventListener("change", () => changed(Number(field.value)));
    return { fill, get value() { return Number(field.value); } };
  }

  function buttons(place, name, texts, chosen, changed) {
    const group = document.createElement("span");
    group.className = "buttons";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", name);
    texts.forEach((text, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => { mark(index); changed(index); });
      group.append(button);
    });
    const mark = (index) => [...group.children].forEach((button, place) => {
      button.classList.toggle("chosen", place === index);
      button.setAttribute("aria-pressed", place === index);
    });
    mark(chosen);
    place.append(group);
  }

  function controls(place) {
    const line = document.createElement("div");
    line.className = "controls";
    place.append(line);
    return line;
  }

  const names = views.shapes.map((shape) => shape.name);
  const place = (items, symbol, otherwise) => {
    const found = items.findIndex((item) => item.symbol === symbol);
    return found < 0 ? otherwise : found;
  };

  const openers = {
    summary() {
      const { whole, by_row } = data.charts;
      const layout = (title, margin) => ({ title: { text: title, font: { size: 15 }, x: 0.02, xanchor: "left" }, margin,
        height: 420, font: { family: "inherit", size: 12.5 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff" });
      if (whole.symbols.length) {
        const bar = (values, name, color) => ({ type: "bar", x: whole.symbols, y: values, name, marker: { color } });
        Plotly.newPlot("chart-whole", [bar(whole.ours, "this study", "#0072B2"), bar(whole.paper, "the paper", "#c3ccd6")],
          { ...layout("D-Score over all networks (lower is better)", { l: 50, r: 10, t: 50, b: 70 }), barmode: "group",
            legend: { orientation: "h", x: 0.99, xanchor: "right", y: 0.99, yanchor: "top" }, yaxis: { gridcolor: "#e3e8ed", rangemode: "tozero" } }, quiet);
      } else byId("chart-whole").remove();
      const text = by_row.values.map((row) => row.map((value) => (value === null ? "" : value.toFixed(2))));
      Plotly.newPlot("chart-rows", [{ type: "heatmap", x: by_row.symbols, y: by_row.rows, z: by_row.values, text, texttemplate: "%{text}",
        zmin: 0, zmax: 0.5, colorscale: [[0, "#e8f5f0"], [0.2, "#fbe3b5"], [0.6, "#e79a55"], [1, "#b3470b"]], showscale: false,
        xgap: 2, ygap: 2, hovertemplate: "%{y}, %{x}: %{z:.3f}<extra></extra>" }],
        { ...layout("D-Score on each network by itself", { l: 10, r: 16, t: 50, b: 76 }), yaxis: { automargin: true, autorange: "reversed", type: "category" }, xaxis: { type: "category", tickangle: -45, tickfont: { size: 11.5 } } }, quiet);
    },
    queries() {
      const root = byId("view-queries");
      const line = controls(root);
      const chosen = { shape: 0, left: place(views.strategies, "S_UNI", 0), right: place(views.strategies, "S_Linear", 0), surface: true };
      const symbols = views.strategies.map((one) => one.symbol);
      const panels = new Panels(root, 2, true);
      const draw = () => ["left", "right"].forEach((side, index) => {
        const strategy = views.strategies[chosen[side]];
        const shown = traces(strategy.clouds[chosen.shape], {});
        if (chosen.surface) shown.push(...traces(views.shapes[chosen.shape].mesh, { opacity: 0.35 }));
        panels.show(index, strategy.symbol + "  " + strategy.name, shown, strategy.texts[chosen.shape]);
      });
      select(line, "Shape", names, 0, (index) => { chosen.shape = index; draw(); });
      [["left", "Left strategy"], ["right", "Right strategy"]].forEach(([side, name], index) => {
        const above = controls(panels.panels[index]);
        panels.panels[index].prepend(above);
        buttons(above, name, symbols, chosen[side], (strategy) => { chosen[side] = strategy; draw(); });
      });
      buttons(line, "Surface", ["with surface", "points alone"], 0, (index) => { chosen.surface = index === 0; draw(); });
      draw();
    },
    reconstructions() {
      if (!views.rows.length) return;
      const root = byId("view-reconstructions");
      const line = controls(root);
      const chosen = { row: 0, shape: 0, first: 0, second: 0 };
      const panels = new Panels(root, 4, false);
      const fields = {};
      const entries = () => views.rows[chosen.row].strategies;
      const symbols = () => entries().map((one) => one.symbol);
      const draw = () => {
        const row = views.rows[chosen.row];
        const first = row.strategies[chosen.first];
        const seen = row.input ? views.inputs[row.input][chosen.shape]
          : (views.strategies.find((one) => one.name === first.name) || { clouds: [] }).clouds[chosen.shape];
        panels.show(0, "Input", traces(seen, {}), row.input ? row.input + " surface points" : "labelled points of " + first.symbol);
        panels.show(1, "Ground truth", traces(views.shapes[chosen.shape].mesh, {}), names[chosen.shape]);
        [first, row.strategies[chosen.second]].forEach((one, index) => {
          const entry = one.shapes[chosen.shape];
          panels.show(2 + index, one.symbol + "  " + one.name, traces(entry, { far: true }), entry.text);
        });
      };
      const start = () => {
        chosen.first = place(entries(), "S_NS", 0);
        chosen.second = place(entries(), "S_Linear", place(entries(), "S_BS", entries().length - 1));
        fields.first.fill(symbols(), chosen.first);
        fields.second.fill(symbols(), chosen.second);
      };
      select(line, "Network", views.rows.map((row) => row.label), 0, (index) => { chosen.row = index; start(); draw(); });
      select(line, "Shape", names, 0, (index) => { chosen.shape = index; draw(); });
      fields.first = select(line, "Strategy", [], 0, (index) => { chosen.first = index; draw(); });
      fields.second = select(line, "against", [], 0, (index) => { chosen.second = index; draw(); });
      start();
      draw();
    },
    failures() {
      if (!views.failures.length) return;
      const root = byId("view-failures");
      const line = controls(root);
      const panels = new Panels(root, 3, false);
      const draw = (index) => {
        const one = views.failures[index];
        panels.show(0, "Input", traces(one.input_points, {}), "what the network saw");
        panels.show(1, "Ground truth", traces(one.truth, {}), one.shape);
        panels.show(2, "Reconstruction: " + one.label, traces(one.mesh, { far: true }), one.text);
      };
      buttons(line, "Failure", views.failures.map((one) => one.label + ", " + one.shape), 0, draw);
      draw(0);
    },
  };

  const THREE = ["queries", "reconstructions", "failures"];
  const canvas = document.createElement("canvas");
  const webgl = Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  const ready = inflate().then((found) => { buffer = found; });

  function open(name) {
    const section = byId(name) || document.querySelector("section");
    for (const other of document.querySelectorAll("section")) other.classList.toggle("active", other === section);
    for (const link of document.querySelectorAll("nav a")) link.classList.toggle("active", link.hash === "#" + section.id);
    window.scrollTo(0, 0);
    const opener = openers[section.id];
    if (!opener || opened[section.id]) return;
    opened[section.id] = true;
    if (!THREE.includes(section.id)) return opener();
    if (webgl) return ready.then(opener);
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = "This browser shows no 3D views: WebGL is switched off. The figures show the same without.";
    byId("view-" + section.id).append(notice);
  }
  document.querySelector("nav").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    open(link.hash.slice(1));
  });
  window.addEventListener("hashchange", () => open(location.hash.slice(1)));
  open(location.hash.slice(1));
})();
