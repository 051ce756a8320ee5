//go:build browser

// Package browsertest gives tests a Chromium. Tests that use it have the build
// tag browser.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/chromedp/chromedp"
)

// Start starts Debian's Chromium without a window, with a new and empty profile.
// A chromedp context made from the one it returns is a tab; with
// chromedp.WithNewBrowserContext it is a person of its own. stop ends the
// browser and removes the profile.
func Start() (browser context.Context, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "sluis-chromium-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a profile for chromium: %w", err)
	}
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(dir), chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.NoSandbox, // which Chromium refuses to root
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
	)
	browser, cancel := chromedp.NewContext(allocator)
	stop = func() error {
		cancel()
		cancelAllocator()
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing chromium's profile: %w", err)
		}
		return nil
	}
	if err := chromedp.Do(browser); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("starting chromium: %w; `apt-get install chromium` installs it", err), stop())
	}
	return browser, stop, nil
}
