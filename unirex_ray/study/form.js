"use strict";
// Shows one text at a time and keeps every answer at once. What studies hold becomes text nodes, never markup.
(() => {
  const STRETCH = 120; // seconds without a sign of life after which nobody is thought to read
  const PATIENCE = [1000, 30000]; // milliseconds before the server is asked again: at first, at most
  const LATEST = Date.UTC(9999, 0); // beyond it, other programs cannot read times

  const $ = (id) => document.getElementById(id);
  const { export: empty, server, parts } = JSON.parse($("sheet").textContent);
  const screens = [
    { kind: "start" },
    ...parts.flatMap((part, number) => [
      ...(number ? [{ kind: "between", part: number }] : []),
      ...part.pages.map((page, index) => ({ kind: "page", part: number, page, index })),
    ]),
    { kind: "end" },
  ];
  const nameOf = ({ kind, page, part }) => page?.item ?? part ?? kind;
  const indexOf = (name) => Math.max(0, screens.findIndex((screen) => nameOf(screen) === name));
  const pages = new Map(screens.filter(({ page }) => page).map((screen) => [screen.page.item, screen]));
  const answers = new Map(); // by item: item, a value per question that was answered, seconds, at
  let place = 0;

  // ---- answers

  const questionsOf = (screen) => parts[screen.part].questions;
  const choicesOf = (screen, question) => (question.scale.length ? question.scale : screen.page.options);
  const open = (screen) => questionsOf(screen).filter(({ name }) => !(name in (answers.get(screen.page.item) ?? {})));
  const isComplete = (screen) => open(screen).length === 0;
  const waiting = (part) => screens.filter((screen) => screen.page && screen.part === part && !isComplete(screen));
  const missing = (part) => waiting(part).length;
  const allMissing = () => parts.reduce((sum, _, part) => sum + missing(part), 0);
  const complete = () => [...pages.values()].filter(isComplete).map(({ page }) => answers.get(page.item));
  const timeOf = (answer) => Math.min(Date.parse(answer?.at) || 0, LATEST);

  // The last part that was begun: what comes before it is settled, as it may show what was asked there.
  const begun = () => Math.max(state.begun, ...[...answers.keys()].map((item) => pages.get(item).part));
  const isSettled = (screen) => screen.part < begun() && isComplete(screen);

  const cleaned = (found) => {
    const screen = pages.get(found?.item);
    if (!screen) return null;
    const fits = ({ name, first }, count) => Number.isInteger(found[name]) && found[name] >= first && found[name] < first + count;
    const given = questionsOf(screen).filter((question) => fits(question, choicesOf(screen, question).length));
    if (!given.length) return null;
    return {
      item: screen.page.item,
      ...Object.fromEntries(given.map(({ name }) => [name, found[name]])),
      seconds: Number.isFinite(found.seconds) ? Math.max(0, found.seconds) : 0,
      at: new Date(timeOf(found)).toISOString(),
    };
  };

  const take = (found, { settled = true, write = true } = {}) => {
    const known = found.map(cleaned).filter(Boolean);
    for (const answer of known) {
      const mine = answers.get(answer.item);
      const keep = mine && (timeOf(mine) >= timeOf(answer) || (!settled && isSettled(pages.get(answer.item))));
      if (keep) continue;
      answers.set(answer.item, answer);
      spent.set(answer.item, Math.max(answer.seconds, spent.get(answer.item) ?? 0));
      if (write) store.set(keyOf(answer.item), answer);
    }
    return known;
  };

  const give = (screen, name, value) => {
    const { item } = screen.page;
    const before = answers.get(item);
    count();
    answers.set(item, {
      ...before,
      item,
      [name]: value,
      seconds: Math.round((spent.get(item) ?? 0) * 10) / 10,
      at: new Date(Math.max(Date.now(), timeOf(before) + 1)).toISOString(),
    });
    store.set(keyOf(item), answers.get(item));
    exported = false;
    say("");
    update();
    synchronise();
  };

  // ---- time that a page was in sight

  const spent = new Map(); // seconds by item
  let since = null;
  const count = () => {
    const now = performance.now();
    const item = screens[place].page?.item;
    if (item && since !== null) spent.set(item, (spent.get(item) ?? 0) + Math.min((now - since) / 1000, STRETCH));
    since = document.hidden ? null : now;
  };

  // ---- what this browser keeps

  let keeps = true;
  let exported = true;
  const store = {
    get(key) {
      try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
    },
    set(key, value) {
      try { localStorage.setItem(key, JSON.stringify(value)); } catch { keeps = false; }
    },
  };
  const keyOf = (...item) => JSON.stringify(["unirex_ray study", empty.study, empty.annotator, ...item]);
  const state = { begun: 0, at: null, keys: true };
  const recall = () => {
    const before = store.get(keyOf());
    state.begun = Math.max(state.begun, Math.min(Number(before?.begun) || 0, parts.length - 1));
    // Written back, it might replace what another tab has written meanwhile.
    take([...pages.keys()].map((item) => store.get(keyOf(item))), { write: false });
    return before;
  };
  const remember = () => store.set(keyOf(), state);

  // ---- what the server keeps

  const saved = new Map(); // by item: time of the answer that the server has
  let heard = !server;
  let away = false;
  let busy = false;
  let wait = PATIENCE[0];
  let timer = null;
  const unsaved = () => (server ? complete().filter((answer) => saved.get(answer.item) !== timeOf(answer)) : []);
  const posted = (answer) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(answer) });

  const ask = async (options = {}) => {
    const reply = await fetch("answers", { cache: "no-store", signal: AbortSignal.timeout(10000), ...options });
    return reply.ok ? reply.json().catch(() => null) : null;
  };
  const hear = async () => {
    const found = await ask();
    if (!Array.isArray(found?.answers)) return;
    for (const answer of take(found.answers)) saved.set(answer.item, timeOf(answer));
    heard = true;
  };
  const round = async () => {
    if (!heard) await hear();
    let good = heard;
    for (const answer of unsaved()) {
      if ((await ask(posted(answer)))?.saved === true) saved.set(answer.item, timeOf(answer));
      else good = false;
    }
    return good;
  };
  const synchronise = async () => {
    if (!server || busy) return;
    busy = true;
    clearTimeout(timer);
    away = !(await round().catch(() => false));
    if (away) heard = false; // others may have answered meanwhile, elsewhere
    busy = false;
    if (away || unsaved().length) timer = setTimeout(synchronise, away ? wait : 0);
    wait = away ? Math.min(2 * wait, PATIENCE[1]) : PATIENCE[0];
    update();
  };
  const leave = () => {
    for (const answer of heard || away ? unsaved() : []) fetch("answers", { ...posted(answer), keepalive: true }).catch(() => {});
  };

  // ---- what is on the screen

  const element = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text, ...properties });
  const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const say = (text) => { $("said").textContent = text; };

  const passage = ({ choice, runs }) => {
    const text = element("p", "", { className: "text", dir: "auto" });
    text.append(...runs.map(([part, marked]) => (marked ? element("mark", part) : part)));
    return choice ? [element("h2", choice, { className: "choice", dir: "auto" }), text] : [text];
  };

  const fieldset = (screen, question) => {
    const box = element("fieldset");
    box.append(element("legend", question.text));
    box.append(...choicesOf(screen, question).map((choice, number) => {
      const value = question.first + number;
      const radio = element("input", "", { type: "radio", name: question.name, value });
      radio.addEventListener("change", () => give(screen, question.name, value));
      const label = element("label");
      label.append(radio, element("b", String(number + 1)), " ", element("bdi", choice));
      return label;
    }));
    return box;
  };

  const draw = {
    page(screen) {
      const { page, part, index } = screen;
      const name = parts.length > 1 ? `Part ${part + 1} of ${parts.length}: ` : "";
      $("part").textContent = name + parts[part].title;
      $("title").textContent = `Text ${index + 1} of ${parts[part].pages.length}`;
      $("predicted").hidden = page.predicted === null;
      $("label").textContent = page.predicted;
      const marked = page.passages.some(({ runs }) => runs.some(([, highlighted]) => highlighted));
      $("nothing").textContent = marked ? "" : page.predicted === null ? "Nothing is highlighted here: go by the text." : "Nothing is highlighted here.";
      $("texts").replaceChildren(...page.passages.flatMap(passage));
      $("questions").replaceChildren(...questionsOf(screen).map((question) => fieldset(screen, question)));
      for (const help of document.querySelectorAll("[data-help]")) help.hidden = Number(help.dataset.help) !== part;
      $("help").open = false;
    },
    between({ part }) {
      for (const help of document.querySelectorAll("[data-before]")) help.hidden = Number(help.dataset.before) !== part;
    },
  };

  const refresh = {
    start() {
      $("begin").disabled = !heard && !away;
      $("begin").textContent = answers.size ? "Go on" : "Start";
      $("resume").textContent = answers.size ? `${complete().length} of ${pages.size} texts answered so far.` : "";
    },
    page(screen) {
      const given = answers.get(screen.page.item) ?? {};
      const settled = isSettled(screen);
      for (const radio of $("questions").querySelectorAll("input")) radio.checked = given[radio.name] === Number(radio.value);
      for (const box of $("questions").children) box.disabled = settled;
      $("settled").hidden = !settled;
      const total = parts[screen.part].pages.length;
      Object.assign($("progress"), { max: total, value: total - missing(screen.part) });
      tell("count", `${total - missing(screen.part)} of ${total} answered`);
      $("forth").classList.toggle("main", isComplete(screen));
      $("skip").disabled = !allMissing();
    },
    between({ part }) {
      const left = missing(part - 1);
      $("left").textContent = left ? `${plural(left, "text")} of part ${part} still ${left === 1 ? "waits" : "wait"} for an answer.` : `Part ${part} is complete.`;
      $("warning").hidden = Boolean(left) || begun() >= part;
      $("open").textContent = left ? "Go to the next text without an answer" : `${begun() >= part ? "Go on with" : "Begin"} part ${part + 1}`;
    },
    end() {
      const left = allMissing();
      $("end-title").textContent = left ? "Not everything is answered yet" : "Thank you: everything is answered";
      $("end-left").textContent = left ? `${plural(left, "text")} still ${left === 1 ? "waits" : "wait"} for an answer.` : "";
      $("end-next").hidden = !left;
      if (server) {
        const all = heard && !unsaved().length;
        $("end-saved").hidden = !all;
        $("end-waiting").hidden = all;
      } else $("end-button").classList.toggle("main", !left);
    },
  };

  // Screen readers tell what changes, so what stays the same must not be set again.
  const tell = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

  const update = () => {
    refresh[screens[place].kind](screens[place]);
    $("keeps").hidden = keeps;
    tell("server", away ? "Not saved on the server yet: the server takes no answers at the moment. This page tries again by itself." : "");
  };

  const show = (to, { focus = true } = {}) => {
    count();
    place = to;
    const screen = screens[place];
    state.at = nameOf(screen);
    remember();
    draw[screen.kind]?.(screen);
    for (const kind of Object.keys(refresh)) $(kind).hidden = kind !== screen.kind;
    update();
    scrollTo(0, 0);
    if (focus) [...$(screen.kind).querySelectorAll("h1")].find((title) => title.offsetParent).focus({ preventScroll: true });
  };

  // ---- what annotators do

  const go = (to) => {
    if (!screens[to]) return;
    say("");
    show(screens[to].page && screens[to].part > begun() ? indexOf(screens[to].part) : to);
  };

  const actions = {
    back: () => go(place - 1),
    next: () => go(place + 1),
    unanswered() {
      const part = parts.findIndex((_, number) => missing(number));
      if (part < 0) return go(screens.length - 1);
      const found = waiting(part).map((screen) => screens.indexOf(screen));
      return go(found.find((number) => number > place) ?? found[0]);
    },
    begin() {
      if (answers.size || begun()) actions.unanswered();
      else go(1);
    },
    open() {
      const { part } = screens[place];
      if (missing(part - 1)) return actions.unanswered();
      state.begun = Math.max(state.begun, part);
      return go(place + 1);
    },
    export() {
      const file = new Blob([`${JSON.stringify({ ...empty, answers: complete() }, null, 1)}\n`], { type: "application/json" });
      const link = element("a", "", { href: URL.createObjectURL(file), download: `answers-${empty.annotator}.json` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      exported = true;
      const left = allMissing();
      say(`Exported ${plural(complete().length, "answer")} to ${link.download}.${left ? ` ${left} of ${pages.size} texts are still missing.` : " Nothing is missing."}`);
    },
    import: () => $("file").click(),
  };

  const problemOf = (content) => {
    if (content?.format !== empty.format || !Array.isArray(content.answers)) return "This file is no export of such a form.";
    if (content.version !== empty.version) return "This file is of another version of the form.";
    if (content.study !== empty.study) return "This file belongs to another study.";
    if (content.simulated) return "These answers are simulated, and this form is for people.";
    if (content.annotator !== empty.annotator) return `This file holds the answers of ${content.annotator}, and this is the form of ${empty.annotator}.`;
    return "";
  };
  const read = async (file) => {
    const content = await file.text().then(JSON.parse).catch(() => null);
    const problem = problemOf(content);
    if (problem) return say(`Nothing was read: ${problem}`);
    const known = take(content.answers, { settled: false });
    const strange = content.answers.length - known.length;
    update();
    synchronise();
    return say(`Read ${plural(known.length, "answer")}${strange ? `; ${strange} did not fit this form and ${strange === 1 ? "was" : "were"} left out` : ""}. ${complete().length} of ${pages.size} texts are answered.`);
  };

  const choose = (number) => {
    const screen = screens[place];
    const focused = document.activeElement.closest("#questions fieldset") ?? null;
    const boxes = [...$("questions").children];
    const box = boxes[questionsOf(screen).indexOf(open(screen)[0])] ?? focused;
    const radio = box?.querySelectorAll("input")[number - 1];
    if (!radio || box.disabled) return;
    radio.focus();
    radio.click();
  };
  const enter = () => {
    const { kind } = screens[place];
    if (kind === "page" && !isComplete(screens[place])) return say("Answer the questions first, or choose Next to leave this text for later.");
    return $({ start: "begin", page: "forth", between: "open" }[kind])?.click();
  };
  const press = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || !state.keys) return;
    const { kind } = screens[place];
    if (event.key === "Enter" && !event.target.closest("button, summary, #tools")) enter();
    else if (event.key === "Backspace" || event.key.toLowerCase() === "p") actions.back();
    else if (kind === "page" && /^[1-9]$/.test(event.key)) choose(Number(event.key));
    else return;
    event.preventDefault();
  };

  addEventListener("keydown", press);
  addEventListener("click", ({ target }) => actions[target.closest("[data-do]")?.dataset.do]?.());
  $("file").addEventListener("change", ({ target }) => {
    if (target.files.length) read(target.files[0]);
    target.value = "";
  });
  $("keys").addEventListener("change", ({ target }) => { state.keys = target.checked; remember(); });
  for (const sign of ["keydown", "pointerdown", "pointermove", "scroll"]) addEventListener(sign, count, { capture: true, passive: true });
  document.addEventListener("visibilitychange", () => {
    count();
    if (document.hidden) leave(); // for ever, perhaps: nothing more is sure to run
  });
  addEventListener("online", synchronise);
  addEventListener("storage", () => { recall(); update(); });
  addEventListener("beforeunload", (event) => {
    const lost = server ? unsaved().length : !exported;
    if (!keeps && lost) event.preventDefault();
  });

  const before = recall();
  state.keys = before?.keys !== false;
  $("keys").checked = state.keys;
  show(indexOf(before?.at), { focus: false });
  synchronise();
})();
