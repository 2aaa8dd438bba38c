// What pages do by themselves: times in the reader's zone, parts that stay fresh, the key of the search.
"use strict";

// --- times: <time datetime> in the reader's zone, class "ago" or "until" relative to now ----------------

const two = (number) => String(number).padStart(2, "0");

const local = (time) =>
  `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}`;

const universal = (time) => `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;

const lasting = (milliseconds) => {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  const words = days === 1 ? "1 day" : `${days} days`;
  return hours % 24 ? `${words} ${hours % 24} h` : words;
};

const relative = (time) => {
  const since = Date.now() - time;
  return since < 0 ? `in ${lasting(-since)}` : `${lasting(since)} ago`;
};

const showTimes = (root) => {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    if (element.classList.contains("ago")) {
      element.textContent = `${lasting(Date.now() - time)} ago`;
      element.title = `${local(time)}, ${universal(time)}`;
    } else if (element.classList.contains("until")) {
      element.textContent = time > Date.now() ? `in ${lasting(time - Date.now())}` : "now";
      element.title = `${local(time)}, ${universal(time)}`;
    } else {
      element.textContent = local(time);
      element.title = `${universal(time)}, ${relative(time)}`;
    }
  }
};

showTimes(document);
setInterval(() => showTimes(document), 15_000);
for (const element of document.querySelectorAll(".zone")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  element.textContent = `times in ${zone}; point at one for UTC`;
}

// --- live parts: data-live, the address of the page that has them ("": this one); data-every, in seconds -----

const refreshed = new Map(); // address -> ETag of what is shown

const refresh = async (address, every) => {
  const parts = [...document.querySelectorAll("[data-live]")].filter((part) => part.dataset.live === address);
  const isBusy = parts.some((part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, button"));
  if (!document.hidden && !isBusy) {
    try {
      const headers = { Accept: "text/html", "X-Live": "1" };
      if (refreshed.get(address)) headers["If-None-Match"] = refreshed.get(address);
      const response = await fetch(address || location.href, { headers, cache: "no-store" });
      if (response.status === 401) {
        location.reload(); // redirects to the sign-in page
        return;
      }
      if (response.ok) {
        refreshed.set(address, response.headers.get("ETag"));
        show(parts, new DOMParser().parseFromString(await response.text(), "text/html"));
      }
      for (const part of parts) part.classList.toggle("stale", !response.ok && response.status !== 304);
    } catch {
      for (const part of parts) part.classList.add("stale");
    }
  }
  setTimeout(refresh, every, address, every);
};

const show = (parts, fresh) => {
  for (const part of parts) {
    const next = fresh.getElementById(part.id);
    if (next === null) continue;
    showTimes(next);
    if (next.innerHTML === part.innerHTML) continue;
    const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.innerHTML = next.innerHTML;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused !== null) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }
};

for (const part of document.querySelectorAll("[data-live]")) {
  const address = part.dataset.live;
  if (refreshed.has(address)) continue;
  refreshed.set(address, address === "" ? document.body.dataset.etag : "");
  const every = Number(part.dataset.every || 10) * 1000;
  setTimeout(refresh, every, address, every);
}

// --- the frame ----------------------------------------------------------------------------------------

// On a phone the menu is wider than the screen: scroll to the current page without moving the focus.
const current = document.querySelector(".menu [aria-current]");
if (current) {
  const menu = current.closest(".menu");
  menu.scrollLeft = current.offsetLeft - (menu.clientWidth - current.offsetWidth) / 2;
}

if (matchMedia("(max-width: 46rem)").matches) {
  for (const filters of document.querySelectorAll(".filters")) filters.open = false;
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea") || event.target.isContentEditable;
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.getElementById("q");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

// --- suggestions of the search: a combobox ------------------------------------------------------------------

const box = document.getElementById("q");
const list = document.getElementById("suggestions");

if (box && list) {
  let waiting = 0;
  let latest = 0;

  const options = () => [...list.querySelectorAll("[role=option]")];
  const active = () => list.querySelector("[aria-selected=true]");

  const close = () => {
    list.hidden = true;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  };

  const select = (option) => {
    active()?.removeAttribute("aria-selected");
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", option.id);
  };

  const suggest = async () => {
    const number = ++latest;
    const text = box.value.trim();
    if (text.length < 2) {
      close();
      return;
    }
    const fields = new URLSearchParams({ csrf_token: box.form.elements.csrf_token.value, q: text });
    const response = await fetch(`${box.form.action}/suggestions`, { method: "POST", body: fields });
    if (number !== latest || !response.ok || document.activeElement !== box) return; // a later one is under way
    list.innerHTML = await response.text();
    const some = options().length > 0;
    list.hidden = !some;
    box.setAttribute("aria-expanded", String(some));
  };

  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => suggest().catch(close), 150);
  });

  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) {
      event.preventDefault(); // keeps what was typed
      close();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !list.hidden) {
      event.preventDefault();
      const all = options();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const at = all.indexOf(active());
      select(all[at === -1 && step === -1 ? all.length - 1 : (at + step + all.length) % all.length]);
    } else if (event.key === "Enter" && !list.hidden && active()) {
      event.preventDefault();
      active().click();
    }
  });

  box.addEventListener("blur", () => setTimeout(close, 200)); // a click on a suggestion comes first
}
