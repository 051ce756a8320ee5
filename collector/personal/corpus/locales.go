package corpus

// locale is what a shop of one country gets to see. In patterns # is a digit, N
// one from 2 to 9, A a capital letter.
type locale struct {
	region string
	code   string   // of the country, in phone numbers
	trunk  string   // what national numbers begin with, and international ones do not
	phones []string // national, as people there write them
	iban   string   // behind the check digits; empty where there is none
	first  []string
	last   []string
	mail   []string // domains
	says   []string // sentences with {} in them, which say what {} is
	tells  []string // sentences with {} in them, which do not
}

var locales = []locale{
	{
		region: "NL", code: "31", trunk: "0",
		phones: []string{"06-########", "06 ## ## ## ##", "06 #### ####", "020-#######", "020 ### ## ##", "0342-######", "(020) ### ####"},
		iban:   "AAAA##########",
		first:  []string{"Sanne", "Daan", "Femke", "Joost", "Noor", "Pieter"}, last: []string{"de Vries", "Jansen", "van den Berg", "Bakker", "Visser"},
		mail: []string{"ziggo.nl", "kpnmail.nl", "gmail.com", "hotmail.nl", "xs4all.nl"},
		says: []string{"Bel mij op {} na zessen", "Mijn telefoonnummer is {}.", "U kunt mij bereiken: tel. {}"}, tells: []string{"Graag reactie naar {}, alvast bedankt", "Groeten, {}", "het gaat om {} denk ik"},
	},
	{
		region: "DE", code: "49", trunk: "0",
		phones: []string{"0151 ########", "0171 #######", "0176/########", "030 ########", "089 / ## ## ## ##", "040-#######", "(0221) ######"},
		iban:   "##################",
		first:  []string{"Jürgen", "Anna", "Lukas", "Sabine", "Björn"}, last: []string{"Müller", "Schmidt", "Weiß", "Krüger", "Hoffmann"},
		mail: []string{"gmx.de", "web.de", "t-online.de", "posteo.de", "gmail.com"},
		says: []string{"Bitte rufen Sie mich unter {} an", "Telefon: {}", "Meine Handynummer ist {}."}, tells: []string{"Bitte an {} senden", "Mit freundlichen Grüßen, {}", "ich bin {} und warte"},
	},
	{
		region: "FR", code: "33", trunk: "0",
		phones: []string{"06 1# ## ## ##", "07.6#.##.##.##", "01 4# ## ## ##", "04-7#-##-##-##", "061#######"},
		iban:   "#######################",
		first:  []string{"Chloé", "Hugo", "Inès", "Mathieu", "Élodie"}, last: []string{"Martin", "Lefèvre", "Dubois", "Moreau", "Garçon"},
		mail: []string{"orange.fr", "free.fr", "laposte.net", "gmail.com", "wanadoo.fr"},
		says: []string{"Vous pouvez m'appeler au {}", "Mon téléphone : {}", "tél. {}"}, tells: []string{"Merci de répondre à {}", "Cordialement, {}", "c'est {} pour moi"},
	},
	{
		region: "GB", code: "44", trunk: "0",
		phones: []string{"0771# ######", "0740# ### ###", "020 7### ####", "0161 4## ####", "(0121) 4## ####", "0783#######"},
		iban:   "AAAA##############",
		first:  []string{"Olivia", "Jack", "Isla", "Harry", "Niamh"}, last: []string{"Smith", "O'Connor", "Taylor", "Evans", "Walker"},
		mail: []string{"btinternet.com", "sky.com", "hotmail.co.uk", "yahoo.co.uk", "gmail.com"},
		says: []string{"Please ring me on {}", "My mobile is {}", "call {} any time"}, tells: []string{"Kindly reply to {} asap", "Regards, {}", "it is {} as before"},
	},
	{
		region: "BE", code: "32", trunk: "0",
		phones: []string{"047# ## ## ##", "0486/## ## ##", "02 5## ## ##", "03/2## ## ##", "09-2## ## ##"},
		iban:   "############",
		first:  []string{"Lotte", "Wout", "Emma", "Thibault"}, last: []string{"Peeters", "Maes", "Dupont", "Claes"},
		mail: []string{"telenet.be", "skynet.be", "proximus.be", "gmail.com"},
		says: []string{"Mijn gsm: bel {}", "Telefoon {}"}, tells: []string{"Stuur het naar {} aub", "Mvg {}"},
	},
	{
		region: "US", code: "1", trunk: "",
		phones: []string{"(212) N##-####", "415-N##-####", "617.N##.####", "312 N##-####", "1-305-N##-####", "(503) N## ####"},
		first:  []string{"Emily", "Liam", "Ava", "Noah", "Maria"}, last: []string{"Johnson", "Garcia", "Brown", "Nguyen", "Lee"},
		mail: []string{"gmail.com", "yahoo.com", "aol.com", "icloud.com", "comcast.net"},
		says: []string{"Call me at {}", "My phone number is {}", "text {} when it ships"}, tells: []string{"Send the receipt to {} please", "Thanks, {}", "still {} right?"},
	},
	{
		region: "ES", code: "34", trunk: "",
		phones: []string{"6## ## ## ##", "6## ### ###", "91 ### ## ##", "93 ### ## ##", "72# ### ###"},
		iban:   "####################",
		first:  []string{"Lucía", "Martín", "Sofía", "Íñigo"}, last: []string{"García", "Fernández", "Muñoz", "Ruiz"},
		mail: []string{"telefonica.net", "gmail.com", "hotmail.es", "terra.es"},
		says: []string{"Llámame al {}", "Mi teléfono es {}"}, tells: []string{"Enviar a {} por favor", "Un saludo, {}"},
	},
	{
		region: "IT", code: "39", trunk: "",
		phones: []string{"347 #######", "333 ### ####", "06 ########", "02 ########", "320-#######"},
		iban:   "A######################",
		first:  []string{"Giulia", "Francesco", "Chiara", "Niccolò"}, last: []string{"Rossi", "Ferrari", "Esposito", "Ricci"},
		mail: []string{"libero.it", "virgilio.it", "gmail.com", "alice.it"},
		says: []string{"Mi chiami al {}", "Cell. {}", "Telefono: {}"}, tells: []string{"Scrivere a {} grazie", "Saluti, {}"},
	},
	{
		region: "PL", code: "48", trunk: "",
		phones: []string{"50# ### ###", "60# ### ###", "22 4## ## ##", "73#-###-###"},
		iban:   "########################",
		first:  []string{"Zofia", "Jakub", "Łukasz", "Żaneta"}, last: []string{"Kowalski", "Wiśniewska", "Zieliński"},
		mail: []string{"wp.pl", "onet.pl", "interia.pl", "gmail.com"},
		says: []string{"Proszę zadzwonić: {}", "Mój telefon: {}", "tel. {}"}, tells: []string{"Proszę wysłać na {}", "Pozdrawiam, {}"},
	},
	{
		region: "SE", code: "46", trunk: "0",
		phones: []string{"070-### ## ##", "073 ### ## ##", "076-#######", "08-### ### ##"},
		iban:   "####################",
		first:  []string{"Astrid", "Göran", "Åsa", "Erik"}, last: []string{"Lindström", "Öberg", "Nilsson"},
		mail: []string{"telia.com", "bredband.net", "gmail.com"},
		says: []string{"Ring mig på {}", "Mobil: {}"}, tells: []string{"Skicka till {} tack", "Hälsningar {}"},
	},
	{
		region: "CH", code: "41", trunk: "0",
		phones: []string{"079 ### ## ##", "078 ### ## ##", "044 ### ## ##", "076/### ## ##"},
		iban:   "#################",
		first:  []string{"Reto", "Beatrice", "Luca"}, last: []string{"Meier", "Keller", "Favre"},
		mail: []string{"bluewin.ch", "sunrise.ch", "gmail.com"},
		says: []string{"Tel. {}", "Bitte Anruf auf {}"}, tells: []string{"Senden an {} danke", "Grüsse {}"},
	},
	{
		region: "DK", code: "45", trunk: "",
		phones: []string{"20 ## ## ##", "31 ## ## ##", "4# ## ## ##", "2### ####"},
		iban:   "##############",
		first:  []string{"Søren", "Freja", "Åse"}, last: []string{"Jensen", "Sørensen", "Møller"},
		mail: []string{"mail.dk", "tdcadsl.dk", "gmail.com"},
		says: []string{"Ring til mig på {}", "Tlf. / mobil {}"}, tells: []string{"Send den til {} tak", "Hilsen {}"},
	},
	{
		region: "AT", code: "43", trunk: "0",
		phones: []string{"0664 #######", "0676/#######", "01 #######", "0699 ########"},
		iban:   "################",
		first:  []string{"Elfriede", "Florian"}, last: []string{"Gruber", "Huber", "Wögerer"},
		mail: []string{"aon.at", "gmx.at", "chello.at"},
		says: []string{"Handy: {}", "Bitte Anruf {}"}, tells: []string{"An {} bitte", "LG {}"},
	},
	{
		region: "PT", code: "351", trunk: "",
		phones: []string{"91# ### ###", "96# ### ###", "21 ### ## ##", "22# ### ###"},
		iban:   "#####################",
		first:  []string{"João", "Inês"}, last: []string{"Gonçalves", "Conceição"},
		mail: []string{"sapo.pt", "mail.telepac.pt", "gmail.com"},
		says: []string{"Ligue para {}", "O meu telefone é {}"}, tells: []string{"Enviar para {} obrigado", "Cumprimentos, {}"},
	},
	{
		region: "IE", code: "353", trunk: "0",
		phones: []string{"087 ### ####", "085 #######", "01 ### ####", "086-#######"},
		iban:   "AAAA##############",
		first:  []string{"Aoife", "Cillian"}, last: []string{"Murphy", "O'Brien", "Ní Dhomhnaill"},
		mail: []string{"eircom.net", "gmail.com", "iol.ie"},
		says: []string{"Call me on {}", "Mobile {}"}, tells: []string{"Post it to {} so", "Thanks, {}"},
	},
	{
		region: "JP", code: "81", trunk: "0",
		phones: []string{"090-####-####", "080-####-####", "03-5###-####", "070 #### ####"},
		first:  []string{"Haruto", "Yui"}, last: []string{"Sato", "Suzuki", "Takahashi"},
		mail: []string{"docomo.ne.jp", "ezweb.ne.jp", "yahoo.co.jp"},
		says: []string{"電話番号は{}です", "TEL: {}"}, tells: []string{"{}までお願いします", "よろしく {}"},
	},
	{
		region: "BR", code: "55", trunk: "",
		phones: []string{"(11) 9####-####", "(21) 9####-####", "(31) 3###-####", "11 9####-####"},
		first:  []string{"Thiago", "Letícia"}, last: []string{"Silva", "Souza", "Araújo"},
		mail: []string{"uol.com.br", "terra.com.br", "gmail.com"},
		says: []string{"Ligue para {}", "Meu celular: {}"}, tells: []string{"Mandar para {} por favor", "Abraço, {}"},
	},
	{
		region: "AU", code: "61", trunk: "0",
		phones: []string{"041# ### ###", "(02) 9### ####", "(03) 9### ####", "043#######"},
		first:  []string{"Charlotte", "Jai"}, last: []string{"Wilson", "Kelly"},
		mail: []string{"bigpond.com", "optusnet.com.au", "gmail.com"},
		says: []string{"Give us a call on {}", "Mob {}"}, tells: []string{"Send it to {} mate", "Cheers, {}"},
	},
}
