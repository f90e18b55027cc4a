// SPDX-License-Identifier: Apache-2.0

package report

// What a reader of the report sees and can do, in a real browser, at the width of
// a screen and of a phone and in both colour schemes.

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

func looks() []look {
	return []look{{1280, 900, false}, {1280, 900, true}, {390, 844, false}, {390, 844, true}}
}

// opened are the recorded traces looked at: a death on the way there and one on
// the way back, three ways side by side, a loop, a packet that left, and no death.
var opened = []string{
	"calico-legacy.policy-deny-tcp", "calico-nft.rule-drop-return-tcp", "calico-legacy.no-route-return-icmp", "flannel-nft.ttl-loop-udp",
	"calico-legacy.tunnel-down-tcp", "flannel-nft.reply-not-translated-tcp.healthy",
}

// TestInBrowser opens reports of recorded traces.
func TestInBrowser(t *testing.T) {
	b := startBrowser(t)
	pages := reports(t)
	for _, name := range opened {
		path := saved(t, name, pages[name])
		died := bytes.Contains(pages[name], []byte(`class="badge"`))
		for _, l := range looks() {
			t.Run(name+"/"+l.String(), func(t *testing.T) {
				b.t = t
				b.open(path, l)
				b.fits(l)
				b.contrast()
				if died {
					b.clickDeath()
				}
				b.keyboard(died)
				b.clean(path)
			})
		}
	}
	b.t = t
}

// clean: nothing was complained of and nothing asked for but the file.
func (b *browser) clean(path string) {
	b.t.Helper()
	if said := b.complaints(); len(said) > 0 {
		b.t.Errorf("console: %q", said)
	}
	for _, url := range b.requests() {
		if !strings.HasPrefix(url, "file://"+path) && url != "data:," {
			b.t.Errorf("asked for %s", url)
		}
	}
}

// fits: nothing is wider than the window, folded or not, and one drawing is shown.
func (b *browser) fits(l look) {
	b.t.Helper()
	var wide struct {
		Page  int
		Drawn []string
	}
	b.eval(`(() => {
		const all = [...document.querySelectorAll("details")].filter(d => !d.open);
		all.forEach(d => d.open = true);
		const wide = {page: document.documentElement.scrollWidth, drawn: [...document.querySelectorAll(".sheet")].filter(s => s.offsetWidth > 0).map(s => s.className)};
		all.forEach(d => d.open = false);
		return wide;
	})()`, &wide)
	if wide.Page > l.width {
		b.t.Errorf("the page is %d pixels wide, the window %d", wide.Page, l.width)
	}
	want := map[bool]string{true: "narrow", false: "wide"}[l.width < 600]
	for _, drawn := range wide.Drawn {
		if !strings.HasSuffix(drawn, want) {
			b.t.Errorf("the drawing shown is %q, want the %s one", drawn, want)
		}
	}
	if len(wide.Drawn) == 0 {
		b.t.Error("no drawing is shown")
	}
}

// contrast: words stand out from what is behind them as WCAG 2.1 AA asks (4.5:1).
func (b *browser) contrast() {
	b.t.Helper()
	var low []string
	b.eval(`(() => {
		const rgb = c => c.match(/[\d.]+/g).map(Number);
		const light = c => { const [r, g, b] = rgb(c).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const ratio = (a, b) => { const x = light(a), y = light(b); return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
		const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } return "rgb(255, 255, 255)"; };
		const low = [];
		for (const e of document.querySelectorAll("h1, h2, h3, h4, p, dd, dt, li, pre, code, a, .tag, .dim, .warn, summary span, th, td, footer")) {
			if (e.closest("svg")) continue;
			const r = ratio(getComputedStyle(e).color, behind(e));
			if (r < 4.5) low.push(e.tagName + "." + e.className + " " + r.toFixed(2));
		}
		const frame = document.querySelector("svg .frame:not(.beyond)");
		const ground = frame ? getComputedStyle(frame).fill : behind(document.querySelector(".sheet"));
		for (const e of document.querySelectorAll("svg.way text")) {
			const badge = e.closest(".badge");
			const r = ratio(getComputedStyle(e).fill, badge ? getComputedStyle(badge.querySelector("rect")).fill : ground);
			if (r < 4.5) low.push("text " + e.getAttribute("class") + " " + r.toFixed(2));
		}
		return [...new Set(low)];
	})()`, &low)
	if len(low) > 0 {
		b.t.Errorf("contrast below 4.5: %q", low)
	}
}

// clickDeath: where packets died is on the page to be seen, and a click there
// unfolds what is known of them and brings it into view.
func (b *browser) clickDeath() {
	b.t.Helper()
	var at struct {
		X, Y, Width, Height float64
		Hit                 bool
		Href, Words         string
	}
	b.eval(`(() => {
		const badge = [...document.querySelectorAll(".badge")].find(e => e.getBoundingClientRect().width > 0);
		badge.scrollIntoView({block: "center"});
		const box = badge.querySelector("rect").getBoundingClientRect(), words = badge.querySelector("text").getBoundingClientRect();
		const x = box.x + box.width / 2, y = box.y + box.height / 2;
		const hit = document.elementFromPoint(x, y);
		return {x, y, width: box.width, height: box.height, hit: !!hit && hit.closest(".badge") === badge && box.right <= innerWidth && words.right <= box.right && words.left >= box.left,
			href: badge.getAttribute("href"), words: badge.textContent};
	})()`, &at)
	if !at.Hit || at.Width < 24 || at.Height < 24 {
		b.t.Fatalf("the death cannot be seen or hit: %+v", at)
	}
	b.click(at.X, at.Y)
	b.settle()
	b.shows(at.Href)
}

// shows: the page went to an anchor, which is unfolded and in view.
func (b *browser) shows(href string) {
	b.t.Helper()
	var now struct {
		Hash    string
		Open    bool
		Visible bool
	}
	b.eval(`(() => {
		const e = document.getElementById(location.hash.slice(1));
		if (!e) return {hash: location.hash};
		const box = e.getBoundingClientRect();
		return {hash: location.hash, open: !e.closest("details") || e.closest("details").open, visible: box.height > 0 && box.top >= 0 && box.top < innerHeight};
	})()`, &now)
	if now.Hash != href || !now.Open || !now.Visible {
		b.t.Errorf("after going to %s: %+v", href, now)
	}
}

// keyboard: the first stop of the Tab key skips to the verdict; a row unfolds with
// the space bar, a death is followed with Enter; what has the focus shows it.
func (b *browser) keyboard(died bool) {
	b.t.Helper()
	var got string
	b.eval(`(() => { history.replaceState(null, "", location.pathname); document.activeElement.blur(); scrollTo(0, 0); getSelection().empty(); document.querySelector(".skip").focus(); return document.activeElement.className; })()`, &got)
	b.press("Enter", 13, "\r")
	b.settle()
	b.shows("#verdict")
	var open [2]bool
	b.eval(`(() => { const s = document.querySelector(".packet:not([open]) > summary") || document.querySelector(".packet > summary"); window.row = s.parentElement; s.focus(); return [row.open, document.activeElement === s]; })()`, &open)
	was := open[0]
	b.press("Space", 32, " ")
	b.settle()
	b.eval(`[row.open, getComputedStyle(document.activeElement).outlineStyle !== "none"]`, &open)
	if open[0] == was || !open[1] {
		b.t.Errorf("the space bar on a row: open %t, was %t; focus shown %t", open[0], was, open[1])
	}
	if !died {
		return
	}
	b.eval(`(() => { const badge = [...document.querySelectorAll(".badge")].find(e => e.getBoundingClientRect().width > 0); badge.focus(); return badge.getAttribute("href"); })()`, &got)
	b.press("Enter", 13, "\r")
	b.settle()
	b.shows(got)
}

// TestBrowserNotices proves that the test above can fail: a page that wants
// something from the network or runs a script of its own is caught, and kept from
// it by the report's policy.
func TestBrowserNotices(t *testing.T) {
	b := startBrowser(t)
	var page bytes.Buffer
	play(t, New(&page), "x", packet(1, "x", model.Dropped))
	evil := strings.Replace(page.String(), "<main>", `<main><img src="http://127.0.0.1:9/x"><script>document.title = "run"</script><p style="color: red" onclick="1">`, 1)
	path := saved(t, "evil", []byte(evil))
	b.open(path, looks()[0])
	if said := b.complaints(); len(said) < 3 {
		t.Errorf("the console shows %q, want a complaint of the image, the script and the style", said)
	}
	var title string
	if b.eval(`document.title`, &title); title == "run" {
		t.Error("a script that is not the report's was run")
	}
	for _, m := range b.events {
		if m.Method == "Network.responseReceived" && bytes.Contains(m.Params, []byte("127.0.0.1")) {
			t.Errorf("something was loaded: %s", m.Params)
		}
	}
}

// TestHostileInBrowser: names made to break the page do not, not even a phone's.
func TestHostileInBrowser(t *testing.T) {
	b := startBrowser(t)
	for _, name := range hostile {
		var page bytes.Buffer
		play(t, New(&page), name, packet(1, name, model.Dropped), packet(2, name, model.Delivered))
		path := saved(t, "hostile", page.Bytes())
		b.open(path, looks()[2])
		b.fits(looks()[2])
		b.clickDeath()
		b.clean(path)
		if t.Failed() {
			t.Fatalf("with the name %.40q", name)
		}
	}
}

// TestWithoutScripts: a death leads to its packets, unfolded, without the page's
// script too.
func TestWithoutScripts(t *testing.T) {
	b := startBrowser(t)
	page := reports(t)[opened[0]]
	from, to := bytes.LastIndex(page, []byte("<script>")), bytes.LastIndex(page, []byte("</script>"))
	path := saved(t, "report", append(page[:from:from], page[to:]...))
	b.open(path, looks()[0])
	var unfolds string
	if b.eval(`typeof unfold`, &unfolds); unfolds != "undefined" {
		t.Fatal("the page has its script")
	}
	b.clickDeath()
	b.clean(path)
}

// TestPictures makes the pictures of the documentation.
//
//	PATHTRACE_PICTURES=$PWD/docs/img go test -run TestPictures ./output/report
func TestPictures(t *testing.T) {
	dir := os.Getenv("PATHTRACE_PICTURES")
	if dir == "" {
		t.Skip("makes pictures: only with PATHTRACE_PICTURES set")
	}
	b := startBrowser(t)
	page := reportOf(t, recorded.Trace(t, "../testdata", "calico-nft.rule-drop-return-tcp"))
	path := saved(t, "report", page)
	for name, shot := range map[string]struct {
		look
		high int
	}{
		"report":       {looks()[0], 1490},
		"report-phone": {looks()[3], 2010},
	} {
		b.open(path, shot.look)
		b.picture(filepath.Join(dir, name+".png"), map[string]any{"x": 0, "y": 0, "width": shot.width, "height": shot.high, "scale": 1})
	}
}
