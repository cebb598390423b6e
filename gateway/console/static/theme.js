// Sets the theme before anything is drawn, so that a dark room stays dark.
"use strict";
{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choose = () => {
    let theme = null;
    try {
      theme = localStorage.getItem("theme");
    } catch {
      // No storage: the system's choice holds.
    }
    document.documentElement.dataset.theme = theme ?? (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("themechange"));
  };
  choose();
  dark.addEventListener("change", choose);
}
