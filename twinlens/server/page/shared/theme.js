// Apply the light or dark theme: the user's choice, else the system's. Runs before the first paint.
(() => {
  "use strict";
  const NAME = "twinlens-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const system = () => (dark.matches ? "dark" : "light");

  // The browser may forbid storage; the choice then lasts until the page is left.
  const load = () => {
    try {
      return localStorage.getItem(NAME);
    } catch {
      return null;
    }
  };
  const save = (theme) => {
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // See above.
    }
  };

  let chosen = ["light", "dark"].find((theme) => theme === load());
  root.dataset.theme = chosen ?? system();
  dark.addEventListener("change", () => {
    if (!chosen) root.dataset.theme = system();
  });
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      root.dataset.theme = chosen;
      save(chosen);
    });
  });
})();
