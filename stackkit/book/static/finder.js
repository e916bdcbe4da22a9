/* Sorts, searches and filters the tables of a finder (see book/finder.py). Rows are hidden, never
   removed: what the page says without this script it says with it. */
(function () {
  "use strict";
  const DAY_MS = 24 * 60 * 60 * 1000;

  /* Days from the last day that a year, a month or a day can mean to the reader's today: whole
     ones, as Fact.age_days counts them. Date.UTC serves for both, since its days all have 24 h. */
  function ageInDays(asOf) {
    const [year, month, day] = asOf.split("-").map(Number);
    const last = day ? Date.UTC(year, month - 1, day) : Date.UTC(year, month || 12, 0);
    const now = new Date();
    const today = Date.UTC(now.getFullYear(), now.getMonth(), now.getDate());
    return Math.max(0, (today - last) / DAY_MS);
  }

  /* The first number of a cell of speeds: "under 1.37 million", "3,010 to 3,560"; else NaN. */
  function amount(text) {
    const found = text.replace(/,/g, "").match(/^(?:under |over )?([\d.]+)( million)?/);
    return found ? Number(found[1]) * (found[2] ? 1e6 : 1) : NaN;
  }

  /* By text, numbers in it by size; values by the rank that the page gives them: unit, then size. */
  function order(a, b, column, isValue, isSpeed) {
    if (isValue) return a.dataset.rank - b.dataset.rank;
    const [one, two] = [a, b].map((row) => row.cells[column].textContent);
    const difference = isSpeed ? amount(one) - amount(two) : NaN;
    return Number.isNaN(difference) ? one.localeCompare(two, "en", { numeric: true }) : difference;
  }

  /* A heading becomes a button that sorts its column, first upward, then downward. */
  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const isValue = head.textContent === "Value";
        const isSpeed = table.classList.contains("sk-speeds");
        rows.sort((a, b) => (down ? -1 : 1) * order(a, b, column, isValue, isSpeed));
        body.append(...rows);
      });
    });
  }

  function flagOldPrices(rows, days) {
    rows.filter((row) => row.age > days && "price" in row.element.dataset).forEach((row) => {
      const flag = document.createElement("small");
      flag.className = "sk-old";
      flag.textContent = "over " + days + " days old";
      row.dated.append(" ", flag);
    });
  }

  function makeFinder(finder) {
    const form = finder.querySelector("form");
    const chosen = form.querySelector("select"); // a layer or a model: what the rows carry
    const isRow = "tr[data-" + chosen.name + "]";
    const asOfColumn = [...finder.querySelectorAll("thead th")].findIndex(
      (head) => head.textContent === "As of");
    const rows = [...finder.querySelectorAll(isRow)].map((element) => {
      const dated = element.cells[asOfColumn];
      const text = (element.id + " " + element.textContent).toLowerCase();
      return { element, text, dated, age: dated ? ageInDays(dated.textContent) : 0 };
    });
    const groups = [...finder.querySelectorAll("tbody, section")];
    flagOldPrices(rows, Number(finder.dataset.oldDays));
    finder.querySelectorAll("table.sk-facts").forEach(makeSortable);

    function show() {
      const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const age = form.age ? Number(form.age.value) : 0;
      let count = 0;
      for (const row of rows) {
        const fits = words.every((word) => row.text.includes(word))
          && (!chosen.value || row.element.dataset[chosen.name] === chosen.value)
          && (!age || row.age > age);
        row.element.hidden = !fits;
        count += fits;
      }
      groups.forEach((group) => {
        group.hidden = !group.querySelector(isRow + ":not([hidden])");
      });
      form.count.textContent = count + " of " + rows.length + " " + finder.dataset.noun;
    }

    /* A link may ask for a view: facts.html?words=h100&layer=memory */
    new URLSearchParams(location.search).forEach((value, name) => {
      if (form[name] && name !== "count") form[name].value = value;
    });
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    show();
  }

  document.querySelectorAll(".sk-finder").forEach(makeFinder);
})();
