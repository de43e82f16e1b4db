/* Two conveniences. Each page works without this script.

   data-evermuse-refresh="SECONDS" on an element with an id: replace its content by that of the same element in a newly
   fetched page, unless the tab is hidden or the person is typing or has something open in it. If the policy of the host
   forbids `connect-src 'self'`, the page is loaded again instead, unless something on it was opened or changed.

   data-evermuse-submit on a form: submit it at once. */

"use strict";

(() => {
  for (const form of document.querySelectorAll("form[data-evermuse-submit]")) form.submit();

  const isInUse = (element) => {
    const focused = document.activeElement;
    return document.hidden || (element.contains(focused) && focused.matches("input, select, textarea, button, summary"));
  };

  const RELOADS = "evermuse-reloads"; // remembered for this tab, so that the policy is violated only once
  document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
    if (effectiveDirective === "connect-src") sessionStorage.setItem(RELOADS, "1");
  });

  const isChanged = () =>
    document.querySelector("details[open]") !== null ||
    [...document.querySelectorAll("input, textarea")].some(
      (field) => field.value !== field.defaultValue || field.checked !== field.defaultChecked,
    );

  const refresh = async (element) => {
    if (isInUse(element)) return;
    if (sessionStorage.getItem(RELOADS)) {
      if (!isChanged()) location.reload();
      return;
    }
    const response = await fetch(location.href, { credentials: "same-origin", headers: { "X-Evermuse-Refresh": "1" } });
    if (!response.ok || response.redirected) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.getElementById(element.id);
    if (!fresh || isInUse(element)) return;
    const opened = new Set([...element.querySelectorAll("details[open][id]")].map((item) => item.id));
    const focusedLink = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    element.replaceChildren(...fresh.childNodes);
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (focusedLink) element.querySelector(`a[href="${CSS.escape(focusedLink)}"]`)?.focus();
    if (!("evermuseRefresh" in fresh.dataset)) delete element.dataset.evermuseRefresh;
  };

  for (const element of document.querySelectorAll("[data-evermuse-refresh][id]")) {
    const seconds = Number(element.dataset.evermuseRefresh) || 5;
    const timer = setInterval(() => {
      if (!("evermuseRefresh" in element.dataset)) { clearInterval(timer); return; }
      refresh(element).catch(() => {}); // the next round tries again
    }, seconds * 1000);
  }
})();
