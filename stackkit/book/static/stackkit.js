/* Page script of the book. Draws stored plotly figures when they come into view, in the page's
   light or dark theme; opens folds that a link or the printer needs; lets the keyboard scroll what
   is too wide. Loads plotly.js only on pages that show a figure, and only from this site. */
(function () {
  "use strict";
  const root = document.documentElement;
  const stillPicture = window.matchMedia("(hover: none)");

  let onPaper = false;
  function template() {
    const dark = root.dataset.theme === "dark" && !onPaper;
    const ink = dark ? "#e6e6e6" : "#1f2328";
    const grid = dark ? "#3d444d" : "#d8dee4";
    const axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid, automargin: true };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, family: "system-ui, sans-serif" },
        hoverlabel: { bgcolor: dark ? "#22272e" : "#ffffff", font: { color: ink } },
        xaxis: axis,
        yaxis: axis,
      },
    };
  }

  let plotly = null;
  function loadPlotly() {
    plotly ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = (root.dataset.content_root || "./") + "_static/vendor/plotly.min.js";
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error("plotly.js did not load"));
      document.head.append(script);
    });
    return plotly;
  }

  /* A plotly slider is not reachable by keyboard: make it a range input. */
  function addSlider(holder, box, slider, Plotly) {
    const id = "sk-slider-" + document.querySelectorAll(".sk-slider").length;
    const row = document.createElement("div");
    row.className = "sk-slider";
    const label = document.createElement("label");
    label.htmlFor = id;
    label.textContent = ((slider.currentvalue || {}).prefix || "Step").trim();
    const input = Object.assign(document.createElement("input"), {
      type: "range", id: id, min: 0, max: slider.steps.length - 1, value: slider.active || 0,
    });
    const output = document.createElement("output");
    output.htmlFor = id;
    function say() {
      const step = slider.steps[Number(input.value)];
      output.textContent = step.label;
      input.setAttribute("aria-valuetext", step.label);
      return step;
    }
    input.addEventListener("input", () => {
      const step = say();
      Plotly[step.method](box, ...structuredClone(step.args));
    });
    say();
    row.append(label, input, output);
    holder.append(row);
  }

  /* One control of a figure with choices: a select, or a slider where it is the last. */
  function addControl(row, control, isSlider, chosen, onChange) {
    const label = document.createElement("label");
    const input = document.createElement(isSlider ? "input" : "select");
    const output = document.createElement("output");
    label.append(control.label + " ", input);
    row.append(label);
    if (isSlider) {
      Object.assign(input, { type: "range", min: 0, max: control.options.length - 1 });
      label.append(output);
    } else {
      control.options.forEach((option, i) => input.add(new Option(option, i)));
    }
    input.value = chosen;
    function say() {
      output.textContent = control.options[input.value];
      if (isSlider) input.setAttribute("aria-valuetext", output.textContent);
    }
    input.addEventListener("input", () => { say(); onChange(Number(input.value)); });
    say();
  }

  /* Choices that were computed beforehand (core/choices.py): points, sentence and table follow. */
  function addChoices(holder, box, choices, Plotly) {
    const chosen = [...choices.start];
    const row = document.createElement("div");
    row.className = "sk-choices";
    const said = document.createElement("p");
    said.className = "sk-said";
    said.setAttribute("aria-live", "polite");
    const table = holder.closest(".cell_output")?.querySelector(".sk-data tbody");
    function cell(value) {
      const td = document.createElement("td");
      td.textContent = typeof value === "number" ? Number(value.toPrecision(4)) : value;
      return td;
    }
    function show() {
      const index = choices.controls.reduce(
        (sum, control, i) => sum * control.options.length + chosen[i], 0);
      const frame = choices.frames[index];
      said.textContent = choices.said[index];
      Plotly.restyle(box, {
        x: frame.map((trace) => trace.x),
        y: frame.map((trace) => trace.y),
        name: frame.map((trace) => trace.name),
      });
      table?.replaceChildren(...frame.flatMap((trace) => trace.x.map((x, i) => {
        const points = document.createElement("tr");
        points.append(cell(trace.name), cell(x), cell(trace.y[i]));
        return points;
      })));
    }
    choices.controls.forEach((control, i) => addControl(
      row, control, i === choices.controls.length - 1, chosen[i],
      (value) => { chosen[i] = value; show(); }));
    holder.prepend(row);
    holder.append(said);
    show();
  }

  async function draw(holder) {
    if (holder.dataset.drawn) return;
    holder.dataset.drawn = "begun";
    const Plotly = await loadPlotly();
    const figure = JSON.parse(holder.querySelector("script").textContent);
    const layout = figure.layout;
    const sliders = layout.sliders || [];
    const choices = (layout.meta || {}).controls ? layout.meta : null;
    delete layout.meta;
    delete layout.sliders;
    delete layout.width;
    layout.autosize = true;
    layout.template = template();
    const narrow = holder.clientWidth < 560;
    if (narrow) {
      layout.margin = Object.assign({}, layout.margin, { l: 44, r: 8 });
      layout.title = Object.assign({}, layout.title, { font: { size: 14 } });
    }
    if (stillPicture.matches) layout.dragmode = false; // a finger scrolls the page
    const box = document.createElement("div");
    holder.append(box);
    await Plotly.newPlot(box, figure.data, layout, {
      responsive: true, displaylogo: false, displayModeBar: stillPicture.matches ? false : "hover",
    });
    if (figure.frames.length) await Plotly.addFrames(box, figure.frames);
    sliders.forEach((slider) => addSlider(holder, box, slider, Plotly));
    if (choices) addChoices(holder, box, choices, Plotly);
    holder.style.minHeight = "";
    holder.skBox = box;
    holder.dataset.drawn = "done";
  }

  function openFoldsAround(element) {
    for (let fold = element; fold; fold = fold.parentElement) {
      if (fold.tagName === "DETAILS") fold.open = true;
    }
  }

  function followHash() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    openFoldsAround(target);
    target.scrollIntoView();
  }

  const holders = document.querySelectorAll(".sk-plotly");
  const watcher = new IntersectionObserver(
    (entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }),
    { rootMargin: "300px" },
  );
  holders.forEach((holder) => watcher.observe(holder));
  if (holders.length) window.addEventListener("load", loadPlotly); // the printer waits for no download
  function recolour() {
    holders.forEach((holder) => {
      if (holder.skBox) window.Plotly.relayout(holder.skBox, { template: template() });
    });
  }
  new MutationObserver(recolour).observe(root, { attributes: true, attributeFilter: ["data-theme"] });

  window.addEventListener("hashchange", followHash);

  /* The theme puts code that scrolls into the tab order once the page is there; but code in a fold
     gets narrower when somebody opens it. */
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    const scrolls = target.scrollWidth > target.clientWidth
      || target.scrollHeight > target.clientHeight;
    target.tabIndex = scrolls ? 0 : -1;
  }));
  document.querySelectorAll("main pre").forEach((box) => sizes.observe(box));
  /* Paper is white and cannot be unfolded. */
  let themeOnScreen = null;
  let foldsClosedOnScreen = [];
  window.addEventListener("beforeprint", () => {
    onPaper = true;
    themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
    foldsClosedOnScreen = [...document.querySelectorAll("details:not([open])")];
    foldsClosedOnScreen.forEach((fold) => { fold.open = true; });
    holders.forEach(draw);
    recolour();
  });
  window.addEventListener("afterprint", () => {
    onPaper = false;
    root.dataset.theme = themeOnScreen;
    foldsClosedOnScreen.forEach((fold) => { fold.open = false; });
    recolour();
  });
  followHash();
})();
