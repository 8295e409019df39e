// What pages do without the server: times in the reader's words, copying, the theme, the search shortcut, loading again.
(() => {
  // MLflow's client prints links to runs as <server>/#/experiments/...: its pages are below /ml here
  if (location.pathname === "/" && location.hash.startsWith("#/")) location.replace("/ml/" + location.hash);

  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const steps = [
    [60, "second", 1],
    [3600, "minute", 60],
    [86400, "hour", 3600],
    [86400 * 30, "day", 86400],
    [86400 * 365, "month", 86400 * 30],
    [Infinity, "year", 86400 * 365],
  ];

  function ago(ms) {
    const seconds = (ms - Date.now()) / 1000;
    const [, unit, size] = steps.find(([limit]) => Math.abs(seconds) < limit);
    if (unit === "second" && Math.abs(seconds) < 10) return "just now";
    return relative.format(Math.trunc(seconds / size), unit);
  }

  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      area.style.position = "fixed";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.querySelector("span");
    const before = label.dataset.label || label.textContent;
    label.dataset.label = before;
    label.textContent = "Copied";
    announce("Copied");
    setTimeout(() => (label.textContent = before), 1600);
  }

  function announce(message) {
    const region = document.getElementById("mp-live");
    if (region) region.textContent = message;
  }

  function setTheme(theme) {
    const root = document.documentElement;
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    if (window.Quasar) window.Quasar.Dark.set(dark);
    for (const button of document.querySelectorAll("[data-theme-choice]"))
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
  }

  function chooseTheme(theme) {
    setTheme(theme);
    fetch("/api/millpond/ui/preferences", {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ theme }),
    });
  }

  function flip(button) {
    const target = document.getElementById(button.dataset.toggle);
    const open = target.classList.toggle("mp-open");
    button.setAttribute("aria-expanded", String(open));
  }

  // what somebody has typed and not sent yet, which a page that follows something must not take away
  const typedIn = new Set();
  document.addEventListener("input", (event) => typedIn.add(event.target));

  function moveOn() {
    if (![...typedIn].some((field) => field.isConnected && (field.value ?? field.textContent))) return location.reload();
    if (document.getElementById("mp-moved-on")) return;
    const said = Object.assign(document.createElement("span"), { textContent: "This page is out of date." });
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Load again" });
    button.className = "mp-button";
    button.addEventListener("click", () => location.reload());
    const bar = Object.assign(document.createElement("div"), { id: "mp-moved-on", className: "mp-notice" });
    bar.append(said, button);
    document.body.append(bar);
    announce(said.textContent);
  }

  document.addEventListener("click", (event) => {
    const copying = event.target.closest("[data-copy]");
    if (copying) return copy(copying);
    const theme = event.target.closest("[data-theme-choice]");
    if (theme) return chooseTheme(theme.dataset.themeChoice);
    const toggle = event.target.closest("[data-toggle]");
    if (toggle) return flip(toggle);
    for (const menu of document.querySelectorAll("details.mp-menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.mp-menu[open]")) menu.open = false;
    const typing = event.target.closest("input, textarea, select, [contenteditable=true], .mp-grid");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      document.getElementById("mp-search-input")?.focus();
    }
  });

  window.millpond = { ago, exact: (ms) => absolute.format(ms), announce, moveOn };
})();
