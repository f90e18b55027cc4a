// SPDX-License-Identifier: Apache-2.0
// Nothing here is needed to read the page: links into folded parts open them in
// browsers that do not do so themselves, and paper shows all.
function unfold(e) { for (; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true; }
function show() { var e = document.getElementById(location.hash.slice(1)); if (e) { unfold(e); e.scrollIntoView(); } }
addEventListener("hashchange", show);
addEventListener("DOMContentLoaded", show);
addEventListener("beforeprint", function () { document.querySelectorAll("details").forEach(unfold); });
