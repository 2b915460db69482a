// Plays every .player of the page: the nodes of each clip, its torque arcs, and the cursors of the charts beside it.
"use strict";

for (const player of document.querySelectorAll(".player")) {
  const data = JSON.parse(player.dataset.clips);
  const panes = [...player.querySelectorAll(".pane")];
  const play = player.querySelector(".play");
  const scrub = player.querySelector(".scrub");
  const clock = player.querySelector(".clock");
  const speed = player.querySelector(".speed");
  const charts = [...player.closest("section").querySelectorAll("svg[data-from]")];
  const end = Math.max(...data.clips.map((clip) => clip.duration));
  const rest = 1.0; // s of stillness before it starts again
  let time = 0, playing = false, last = null;
  scrub.max = end;

  function nodesAt(clip, t) {
    const exact = Math.min(t / clip.frame, clip.nodes.length - 1);
    const first = clip.nodes[Math.floor(exact)], second = clip.nodes[Math.ceil(exact)];
    const part = exact - Math.floor(exact);
    return first.map((value, i) => value + part * (second[i] - value));
  }

  function drawTorque(group, x, y, share, sense) {
    const [arc, head] = group.children;
    const angle = -Math.max(-1, Math.min(1, share)) * sense * 2.4; // rad, clockwise on the screen
    group.style.visibility = Math.abs(angle) < 0.06 ? "hidden" : "visible";
    const r = 24, from = -Math.PI / 2, to = from + angle, side = Math.sign(angle);
    const at = (a, q) => `${(x + q * Math.cos(a)).toFixed(1)} ${(y + q * Math.sin(a)).toFixed(1)}`;
    arc.setAttribute("d", `M${at(from, r)}A${r} ${r} 0 0 ${side > 0 ? 1 : 0} ${at(to, r)}`);
    head.setAttribute("d", `M${at(to, r - 6)}L${at(to + side * 0.36, r)}L${at(to, r + 6)}Z`);
  }

  function drawTrail(path, clip, t) {
    const now = Math.min(Math.floor(t / clip.frame), clip.nodes.length - 1);
    const words = [];
    for (let i = Math.max(0, now - Math.round(0.6 / clip.frame)); i <= now; i++) {
      words.push(clip.nodes[i].slice(-2).join(" "));
    }
    path.setAttribute("d", `M${words.join("L")}`);
  }

  function draw() {
    panes.forEach((pane, k) => {
      const clip = data.clips[k], t = Math.min(time, clip.duration), nodes = nodesAt(clip, t);
      pane.querySelectorAll(".link").forEach((line, i) => {
        const [a, b] = data.edges[i];
        line.setAttribute("x1", nodes[2 * a]); line.setAttribute("y1", nodes[2 * a + 1]);
        line.setAttribute("x2", nodes[2 * b]); line.setAttribute("y2", nodes[2 * b + 1]);
      });
      pane.querySelectorAll(".joint, .tip").forEach((circle, i) => {
        circle.setAttribute("cx", nodes[2 * i]); circle.setAttribute("cy", nodes[2 * i + 1]);
      });
      drawTrail(pane.querySelector(".trail"), clip, t);
      const step = Math.min(Math.floor(t / data.period + 1e-6), clip.torque.length - 1);
      const torque = clip.torque[step];
      pane.querySelectorAll(".torque").forEach((group, i) => {
        const j = data.acting[i];
        drawTorque(group, nodes[2 * j], nodes[2 * j + 1], torque ? torque[i] / data.limit[i] : 0, data.senses[i]);
      });
      const ended = time > clip.duration ? " · ended" : "";
      pane.querySelector(".now").textContent =
        (torque ? `torque ${torque.map((v) => v.toFixed(2)).join(", ")} N·m` : "") + ended;
    });
    const shown = Math.min(time, end);
    scrub.value = shown;
    clock.textContent = `${shown.toFixed(2)} s`;
    for (const chart of charts) {
      const { from, to, left, right } = chart.dataset;
      const x = +left + ((shown - from) / (to - from)) * (right - left);
      const cursor = chart.querySelector(".cursor");
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
    }
  }

  function tick(now) {
    if (!playing) return;
    time += last === null ? 0 : ((now - last) / 1000) * speed.value;
    last = now;
    if (time > end + rest) time = 0;
    draw();
    requestAnimationFrame(tick);
  }

  function set(state) {
    playing = state;
    last = null;
    play.textContent = playing ? "❚❚" : "▶";
    if (playing) requestAnimationFrame(tick);
  }

  play.addEventListener("click", () => {
    if (!playing && time >= end) time = 0;
    set(!playing);
  });
  scrub.addEventListener("input", () => { set(false); time = +scrub.value; draw(); });
  draw();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) set(true);
}
