// The light/dark switch, and folded parts unfolded for paper. The page works without this script.
const root = document.documentElement;
const button = document.getElementById("theme");
const dark = () =>
  (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
const stored = { // a browser may refuse storage to a page from disk
  get() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set(theme) { try { localStorage.setItem("theme", theme); } catch { /* not kept, then */ } },
};
if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();
button.hidden = false;
label();
button.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  stored.set(root.dataset.theme);
  label();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    addEventListener("afterprint", () => { part.open = false; }, { once: true });
  }
});
