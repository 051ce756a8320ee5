package collector

// BotPolicy says what becomes of the events of bots: crawlers, AI agents,
// headless browsers and what else package visitor takes for a program that
// nobody looks at.
type BotPolicy string

// The policies. The zero value is FlagBots.
const (
	FlagBots BotPolicy = "flag" // they land, with is_bot and the reason
	DropBots BotPolicy = "drop" // only the ledger knows that there was one, and why
)

// bots tells what kind of program the event comes from. It stands behind the
// gate: of a bot, too, nothing is kept without consent.
func (c *Collector) bots(e *Event) verdict {
	agent := c.Visitors.Agent(e.req.visitor, e.userAgent.String())
	e.row.DeviceClass = agent.Device
	e.row.IsBot, e.row.BotReason = agent.Bot != "", agent.Bot
	if agent.Bot != "" && e.req.source.Bots == DropBots {
		return verdict{Withheld, "bot: " + agent.Bot}
	}
	return verdict{}
}

// regionOf is the region of the visitor. A server tells his address in
// context.ip, where its own is that of the request. Of nobody else that is
// believed: a client could choose the law that it is under.
func (c *Collector) regionOf(e *Event) string {
	if e.req.source.Servers && !e.req.visitor.FromPage() && e.req.again == nil {
		if region := c.Visitors.Place(e.ip.String()); region != "" {
			return region
		}
	}
	return e.req.visitor.Region
}
