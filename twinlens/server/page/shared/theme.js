// Light or dark: what the system says, until somebody chooses. Loaded before the page is painted.
(() => {
  "use strict";
  const NAME = "twinlens-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Storage may be forbidden; the choice then lasts as long as the page.
  const remembered = () => {
    try {
      return localStorage.getItem(NAME);
    } catch {
      return null;
    }
  };
  const remember = (theme) => {
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // See above.
    }
  };

  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
      root.dataset.theme = now === "dark" ? "light" : "dark";
      remember(root.dataset.theme);
    });
  });
})();
