// Sets the theme before anything is drawn, so that a dark room stays dark.
"use strict";
{
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // No storage: the system's choice holds.
  }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
}
