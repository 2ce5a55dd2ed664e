// Keeps the list of an open page as it is at the gateway: it loads the list again when it is told that
// something changed. What is loaded is made and escaped by the gateway.
"use strict";

(() => {
  const live = document.getElementById("live");
  const state = document.getElementById(live.dataset.state);
  const heard = document.getElementById(live.dataset.heard);
  const title = document.title.replace(/^Approvals( \(\d+\))?/, "");
  let shown = live.innerHTML;
  let count = counted();
  let loading = false;
  let again = false;

  function counted() {
    return Number(live.querySelector("[data-count]").dataset.count);
  }

  function say(text) {
    if (state.textContent !== text) state.textContent = text;
  }

  function over() {
    changes.close();
    say("You are not signed in any more. Load the page again.");
  }

  async function load() {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    try {
      const answer = await fetch(live.dataset.list, { credentials: "same-origin" });
      if (answer.status === 401) return over();
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      if (text !== shown) put(text);
      say("This list is live.");
    } catch {
      say("This list may be old: the gateway does not answer.");
    } finally {
      loading = false;
      if (again) {
        again = false;
        load();
      }
    }
  }

  function put(text) {
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = text;
    shown = text;
    // whoever goes through the list by keyboard stays where they are
    if (focused) document.getElementById(focused)?.focus();
    const now = counted();
    document.title = `Approvals${now ? ` (${now})` : ""}${title}`;
    if (now !== count) {
      heard.textContent = now === 1 ? "1 request waits" : `${now} requests wait`;
      count = now;
    }
  }

  const changes = new EventSource(live.dataset.changes);
  changes.onopen = () => load();
  changes.onmessage = (event) => (event.data === "over" ? over() : load());
  changes.onerror = () => {
    say("This list may be old: the connection is gone, and is tried again.");
    if (changes.readyState === EventSource.CLOSED) load();
  };
})();
