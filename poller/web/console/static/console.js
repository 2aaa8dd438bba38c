// Parts of pages that refresh by themselves: an element with data-refresh (an address) and data-every (seconds).
"use strict";

// On a phone the menu is wider than the screen: show where we are, without moving what Tab goes on from.
const here = document.querySelector(".menu [aria-current]");
if (here) {
  const menu = here.closest(".menu");
  menu.scrollLeft = here.offsetLeft - (menu.clientWidth - here.offsetWidth) / 2;
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  const every = Number(part.dataset.every) * 1000;
  let shown = "";

  const again = () => setTimeout(refresh, every);

  const refresh = async () => {
    if (document.hidden || part.contains(document.activeElement)) {
      again(); // nobody looks, or somebody is about to press a button in it
      return;
    }
    try {
      const answer = await fetch(part.dataset.refresh, { headers: { Accept: "text/html" } });
      if (answer.status === 401) {
        location.reload(); // leads to signing in
        return;
      }
      if (answer.ok) {
        const text = await answer.text();
        if (text !== shown) {
          part.innerHTML = text;
          shown = text;
        }
      }
      part.classList.toggle("stale", !answer.ok);
    } catch {
      part.classList.add("stale");
    }
    again();
  };

  again();
}
