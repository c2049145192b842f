// Two dials. The first computes what page 13c computes; the second shows kept records.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const COLOURS = { 3: "#8a93a3", "4a": "#de8f05", 5: "#029e73", 6: "#0173b2", oracle: "currentColor", chance: "currentColor" };
  const MARKS = { 3: "M-4-4h8v8h-8z", "4a": "M0-5L5 4H-5z", 5: "M0-5L5 0 0 5-5 0z", 6: "M-4.500 0a4.500 4.500 0 1 0 9 0a4.500 4.500 0 1 0-9 0" };
  const draw = (name, about, to, text) => {
    const e = document.createElementNS(NS, name);
    for (const k in about) e.setAttribute(k, about[k]);
    if (text !== undefined) e.textContent = text;
    to.append(e);
    return e;
  };
  const picture = (place, width, height, words) => {
    place.replaceChildren();
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words }, place);
    return svg;
  };
  const two = x => x.toFixed(2);

  const room = place => Math.min(640, Math.max(280, place.clientWidth));

  // page 13c: score = .2 + .1 clean + .4 studio; one copies the other with probability p
  const worlds = p => {
    const seen = .1 + .4 * (2 * p - 1);
    return { seen, adjusted: p < 1 ? .1 : NaN, "world 1": .1, "world 2": seen };
  };
  const copy = document.getElementById("copy");
  const backdoor = () => {
    const p = +copy.value, w = worlds(p);
    const bars = [["gap in the table, both worlds", w.seen, "#8a93a3"], ["averaged over the studio", w.adjusted, "#de8f05"],
      ["world 1: do(clean)", w["world 1"], "#0173b2"], ["world 2: do(clean)", w["world 2"], "#0173b2"]];
    const words = `At ${two(p)} the gap in the table is ${two(w.seen)} in both worlds. In world 1 an intervention would bring ` +
      `${two(w["world 1"])}, in world 2 it would bring ${two(w["world 2"])}. ` +
      (p < 1 ? `The back-door formula gives ${two(w.adjusted)}: right in world 1, ${w["world 2"] - w.adjusted < .005 ? "and here right" : "wrong"} in world 2.`
        : "Every clean recording is from the studio, so the formula cannot be computed.");
    document.getElementById("copy-now").textContent = two(p);
    document.getElementById("backdoor-words").textContent = words;
    const place = document.getElementById("backdoor-picture"), width = room(place), narrow = width < 500;
    const step = narrow ? 46 : 38, below = 8 + 4 * step, left = narrow ? 12 : 210, unit = (width - left - 46) / .5;
    const svg = picture(place, width, below + 30, words), x = v => left + unit * v;
    for (const v of [0, .1, .2, .3, .4, .5]) {
      draw("line", { x1: x(v), x2: x(v), y1: 8, y2: below, class: v ? "grid" : "axis" }, svg);
      draw("text", { x: x(v), y: below + 18, "text-anchor": "middle" }, svg, v.toFixed(1));
    }
    bars.forEach(([name, value, fill], i) => {
      const top = 14 + step * i + (narrow ? 14 : 0), high = narrow ? 16 : 24, base = top + high / 2 + 5;
      draw("text", narrow ? { x: left + 4, y: top - 4 } : { x: left - 10, y: base, "text-anchor": "end" }, svg, name);
      if (!isNaN(value)) draw("rect", { x: x(0), y: top, width: Math.max(1, unit * value), height: high, fill }, svg);
      draw("text", { x: isNaN(value) ? x(0) + 8 : x(value) + 6, y: base }, svg, isNaN(value) ? "no overlap" : two(value));
    });
  };
  copy.addEventListener("input", backdoor);
  backdoor();

  const records = JSON.parse(document.getElementById("rho-records").textContent);
  const test = document.getElementById("test"), names = [...new Set(records.map(r => r.row))].filter(r => MARKS[r]);
  const rho = () => {
    const trained = +document.querySelector("input[name=rho]:checked").value, at = Math.round(test.value * 10) / 10;
    const near = (a, b) => Math.abs(a - b) < .05;
    document.getElementById("test-now").textContent = at;
    test.setAttribute("aria-valuetext", `ρ = ${at}`);
    const words = `Macro F1 on three age groups against the ρ of the test, networks trained at ρ = ${trained}`;
    const place = document.getElementById("rho-picture"), width = room(place), narrow = width < 500;
    const svg = picture(place, width, 330, words), left = narrow ? 30 : 60, right = width - (narrow ? 96 : 150), unit = (right - left) / 1.8;
    const x = r => left + (r + .9) * unit, y = v => 295 - (v - 20) / 70 * 280;
    draw("rect", { x: x(at) - .07 * unit, y: 10, width: .14 * unit, height: 285, fill: "currentColor", opacity: .09 }, svg);
    for (const v of [20, 30, 40, 50, 60, 70, 80, 90]) {
      draw("line", { x1: x(-.9), x2: x(.9), y1: y(v), y2: y(v), class: "grid" }, svg);
      draw("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, svg, v);
    }
    for (const r of [-.8, -.4, 0, .4, .8]) draw("text", { x: x(r), y: 315, "text-anchor": "middle" }, svg, String(r).replace("-", "−"));
    const lines = [];
    for (const r of records.filter(r => !MARKS[r.row])) {
      draw("line", { x1: x(-.9), x2: x(.9), y1: y(r.value), y2: y(r.value), class: "axis", "stroke-dasharray": r.row === "oracle" ? "7 4" : "2 4" }, svg);
      lines.push([y(r.value), narrow ? r.row : r.method, "currentColor"]);
    }
    names.forEach((row, i) => {
      const mine = records.filter(r => r.row === row && near(r.train_rho, trained)).sort((a, b) => a.test_rho - b.test_rho);
      const px = r => x(r.test_rho) + (i - 1.5) * unit * .02;
      for (const r of mine) draw("line", { x1: px(r), x2: px(r), y1: y(r.low), y2: y(r.high), stroke: COLOURS[row], opacity: .6 }, svg);
      draw("polyline", { points: mine.map(r => `${px(r)},${y(r.value)}`).join(" "), fill: "none", stroke: COLOURS[row], "stroke-width": 1.6 }, svg);
      for (const r of mine) draw("path", { d: MARKS[row], transform: `translate(${px(r)} ${y(r.value)})`, fill: COLOURS[row] }, svg);
      lines.push([y(mine[mine.length - 1].value), mine[0].method, COLOURS[row], row]);
    });
    lines.sort((a, b) => a[0] - b[0]);
    lines.forEach((l, i) => { if (i) l[0] = Math.max(l[0], lines[i - 1][0] + 16); });
    for (const [at_y, name, , row] of lines) {
      if (row) draw("path", { d: MARKS[row], transform: `translate(${right + 13} ${at_y})`, fill: COLOURS[row] }, svg);
      draw("text", { x: right + 23, y: at_y + 4 }, svg, name);
    }
    const now = names.map(row => records.find(r => r.row === row && near(r.train_rho, trained) && near(r.test_rho, at)));
    const table = document.createElement("table"), body = "<thead><tr><th scope=\"col\">method</th><th scope=\"col\">macro F1</th>" +
      "<th scope=\"col\">95 % interval</th></tr></thead>";
    table.innerHTML = `<caption>Trained at ρ = ${trained}, tested at ρ = ${at}</caption>` + body + "<tbody>" + now.map(r =>
      `<tr><td>${r.method}</td><td>${r.value.toFixed(1)}</td><td>${r.low.toFixed(1)} to ${r.high.toFixed(1)}</td></tr>`).join("") + "</tbody>";
    document.getElementById("rho-words").replaceChildren(table);
  };
  test.addEventListener("input", rho);
  document.querySelectorAll("input[name=rho]").forEach(r => r.addEventListener("change", rho));
  rho();
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => { backdoor(); rho(); }, 100); });
})();
