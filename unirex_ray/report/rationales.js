"use strict";
// Shows what the page holds already: which word is in which rationale, and every number, was computed before.
(() => {
  const { percents, cards: values } = JSON.parse(document.getElementById("values").textContent);
  const list = document.getElementById("cards");
  const cards = [...list.children];
  const form = document.getElementById("tools");
  const fields = form ? [...form.elements].filter((field) => field.name) : [];
  const field = (name) => fields.find((one) => one.name === name);
  let marked = null;

  const kindOf = (word, hasGold, percent) => {
    const inside = Number(word.dataset.k || Infinity) <= percent;
    const gold = "g" in word.dataset;
    if (!hasGold) return inside ? "chosen" : "";
    return inside ? (gold ? "both" : "extra") : gold ? "missed" : "";
  };

  const markWord = (word, kind) => {
    const tag = kind ? "mark" : "span";
    let element = word;
    if (word.localName !== tag) {
      element = document.createElement(tag);
      for (const { name, value } of word.attributes) element.setAttribute(name, value);
      element.textContent = word.textContent;
      word.replaceWith(element);
    }
    element.className = kind;
  };

  const showPercent = (percent) => {
    if (percent === marked) return;
    for (const text of list.querySelectorAll("p.text")) {
      for (const word of text.querySelectorAll("[data-k], [data-g]")) markWord(word, kindOf(word, "gold" in text.dataset, percent));
    }
    const place = percents.indexOf(percent);
    for (const number of document.querySelectorAll("[data-at]")) number.textContent = number.dataset.at.split(" ")[place];
    for (const word of document.querySelectorAll(".percent")) word.textContent = percent;
    marked = percent;
  };

  const unfold = (fold, open) => {
    fold.firstElementChild.setAttribute("aria-expanded", String(open));
    fold.lastElementChild.hidden = !open;
  };

  const showFolds = (percent, all) => {
    for (const fold of list.querySelectorAll(".fold")) {
      const folded = !all && fold.dataset.folds.split(" ").includes(String(percent));
      fold.firstElementChild.hidden = !folded;
      unfold(fold, !folded);
    }
  };

  list.addEventListener("click", ({ target }) => {
    const button = target.closest(".fold > button");
    if (button) unfold(button.parentElement, button.getAttribute("aria-expanded") === "false");
  });

  if (!form) {
    showFolds(percents[0], false);
    return;
  }

  const valueOf = (number, key) => {
    const card = values[number];
    const view = card.views[Number(field("method")?.value || 0)];
    const found = key === "apart" ? card.apart : view[key];
    return (Array.isArray(found) ? found[percents.indexOf(Number(field("k").value))] : found) ?? null;
  };

  const isShown = (number) => {
    const card = values[number];
    const { wrong, right } = card.views[Number(field("method")?.value || 0)];
    const kinds = { all: true, wrong, right, differ: card.differ };
    if (!kinds[field("show").value]) return false;
    const bound = field("value").value;
    if (bound === "") return true;
    const value = valueOf(number, field("where").value);
    return value !== null && (field("is").value === "least" ? value >= Number(bound) : value <= Number(bound));
  };

  const inOrder = () => {
    const key = field("sort").value;
    const numbers = [...cards.keys()];
    if (key === "page") return numbers;
    const sign = field("order").value === "up" ? 1 : -1;
    const missing = (number) => Number(valueOf(number, key) === null);
    return numbers.sort((a, b) => missing(a) - missing(b) || sign * (valueOf(a, key) - valueOf(b, key)) || a - b);
  };

  const show = () => {
    const percent = Number(field("k").value);
    showPercent(percent);
    showFolds(percent, field("unfold").checked);
    document.body.classList.toggle("scores", field("scores").checked);
    const columns = fields.filter((one) => one.name === "column");
    columns.forEach((column) => {
      for (const view of list.querySelectorAll(`[data-method="${column.value}"]`)) view.hidden = !column.checked;
    });
    const numbers = inOrder();
    const shown = numbers.filter(isShown);
    list.append(...numbers.map((number) => cards[number]));
    cards.forEach((card, number) => { card.hidden = !shown.includes(number); });
    document.getElementById("count").textContent = `${shown.length} of ${cards.length} instances`;
  };

  const isSet = (one) => one.type === "checkbox";
  const standard = (one) => (isSet(one) ? one.defaultChecked : [...(one.options || [])].find((o) => o.defaultSelected)?.value ?? one.options?.[0].value ?? one.defaultValue);

  const read = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const one of fields) {
      const name = one.name === "column" ? `column${one.value}` : one.name;
      // What the page does not offer, a link to another page may ask for.
      const value = one.closest("label[hidden], span[hidden]") ? null : wanted.get(name);
      if (isSet(one)) one.checked = value === null ? standard(one) : value === "1";
      else one.value = value ?? standard(one);
      if (one.options && one.selectedIndex < 0) one.value = standard(one);
    }
    show();
  };

  const write = () => {
    const chosen = new URLSearchParams();
    for (const one of fields) {
      const name = one.name === "column" ? `column${one.value}` : one.name;
      const value = isSet(one) ? one.checked : one.value;
      if (value !== standard(one)) chosen.set(name, isSet(one) ? String(Number(value)) : value);
    }
    // A frame may forbid it; the view is then no link, and nothing else is lost.
    try { history.replaceState(null, "", `#${chosen}`); } catch { /* as said */ }
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { write(); show(); });
  form.addEventListener("reset", () => setTimeout(() => { write(); show(); }));
  addEventListener("hashchange", read);
  form.hidden = false;
  read();
})();
