// What cannot wait until the page is there: its theme, and what is pressed meanwhile.
"use strict";

// A dark room stays dark.
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

// A press before console.js has come is not lost: it waits for it.
{
  let press = null;
  const keep = (event) => {
    const button = event.target.closest("button");
    if (event.type === "click" && button && !button.form) press = () => button.click();
    else if (event.type === "submit" && event.target.dataset.form) press = () => event.target.requestSubmit(event.submitter);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  for (const type of ["click", "submit"]) addEventListener(type, keep, true);
  addEventListener("console", () => {
    for (const type of ["click", "submit"]) removeEventListener(type, keep, true);
    press?.();
  }, { once: true });
}
