// Parts of pages that refresh by themselves: an element with data-refresh (an address) and data-every (seconds).
"use strict";

// On a phone the menu is wider than the screen: scroll to the current page without moving the focus.
const current = document.querySelector(".menu [aria-current]");
if (current) {
  const menu = current.closest(".menu");
  menu.scrollLeft = current.offsetLeft - (menu.clientWidth - current.offsetWidth) / 2;
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  const every = Number(part.dataset.every) * 1000;
  let shown = "";

  const schedule = () => setTimeout(refresh, every);

  const refresh = async () => {
    if (document.hidden || part.contains(document.activeElement)) {
      schedule(); // hidden, or the user is about to press a button in it
      return;
    }
    try {
      const response = await fetch(part.dataset.refresh, { headers: { Accept: "text/html" } });
      if (response.status === 401) {
        location.reload(); // redirects to the sign-in page
        return;
      }
      if (response.ok) {
        const text = await response.text();
        if (text !== shown) {
          part.innerHTML = text;
          shown = text;
        }
      }
      part.classList.toggle("stale", !response.ok);
    } catch {
      part.classList.add("stale");
    }
    schedule();
  };

  schedule();
}
