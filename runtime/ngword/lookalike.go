package ngword

// look is what a letter really is when it is folded to one that it only looks like.
type look uint8

const (
	plain     look = iota // the letter itself
	cyrillic              // Cyrillic, looks like Latin
	greek                 // Greek, looks like Latin
	syllabic              // a Canadian or Cherokee syllable that looks like Latin
	bopomofo              // looks like kana
	ideograph             // looks like katakana: 力 and カ
	numeral               // 三 for 3
	disguised             // a digit or symbol that stands for a Latin letter
	blanked               // a symbol that stands where any letter may
)

// lookAlikes holds pairs, a letter and what it looks like.
var lookAlikes = [...]struct {
	look  look
	pairs string
}{
	{cyrillic, "аaвbсcԁdеeғfԍgнhһhіiјjкkӏlмmоoрpԛqѕsтtцuѵvԝwхxуyүyҝkѡwҡkҟkԑeєeҳxҷu"},
	{greek, "αaβbεeηnιiκkνvοoρpσoτtυuχxωwγyμuζzϲcϳjϝf"},
	{syllabic, "ᗅaᗩaᗷbᑕcᑢcᗞdᗪdᗴeᗰmᖴfᘜgᎶgᕼhᎻhᎥiᒍjᎫjᏦkᒪlᏞlᎷmᑎnᑭpᏢpᑫqᖇrᏒrᔕsᏚsᎢtᑌuᐯvᏙvᗯwᏔwᎳw᙭xᎩyᏃzᎪaᏴbᏟcᎠdᎬeᏀgᎾo"},
	{bopomofo, "ㄎチㄘチㄑクㄒtㄦルㄨメㄋロㄟヘㄙムㄌカㄅケㄡヌㄜサㄝセㄈコㄉカㄠムㄩuㄚyㄥレㄇnㄗアㄛテ"},
	{ideograph, "力カ口ロ工エ夕タ千チ才オ卜ト"},
	{numeral, "〇0一1二2三3四4五5六6七7八8九9"},
}

// variants are Latin letters of an odd shape, which are always the letter itself: what has a stroke or a hook, small capitals.
const variants = "øođdħhłlŧtıiɑaɐaƀbƃbɓbʙbƈcȼcƌdɖdɗdȡdɇeɛeəeǝeƒfꜰfǥgɠgɡgɢgʛgɦhʜhⱨhɨiɩiɪiʝjɉjƙkʞkⱪkĸkᴋkƚlɫlɬlʟlⱡlɱmɯmᴍmɲnɴnƞnŋnɵoᴏoɔoƥpᵽpꝑpɋqʠqʀrɍrɽrɹrȿsʂsꜱsƭtʈtⱦtᴛtʉuᴜuᵾuʊuʋvᴠvⱳwᴡwƴyɏyʏyƶzʐzȥzᴢzᴀaᴄcᴅdᴇeᴊjᴘpᵿu"

// simplified are Chinese characters, traditional and simplified, and old Japanese ones; only such as stand for one another
// everywhere.
const simplified = "紅红東东車车長长門门馬马鳥鸟魚鱼龍龙貝贝見见語语説说話话請请謝谢論论講讲讀读誰谁調调設设許许試试證证識识" +
	"議议護护譯译銀银錢钱鐵铁鏡镜錯错鐘钟國国學学實实寶宝廣广開开關关電电員员問问間间聞闻書书畫画買买賣卖頭头題题顔颜願愿類类風风" +
	"飛飞飯饭飲饮館馆騎骑驗验麗丽黃黄點点齊齐齒齿龜龟爲为無无熱热煙烟燒烧愛爱戀恋戰战擊击擁拥據据擔担損损撃击敗败數数斷断" +
	"時时晉晋暈晕曬晒條条來来樂乐標标樣样樹树橋桥機机檢检權权歐欧歡欢歲岁歷历殘残殺杀氣气決决沒没淚泪渦涡測测溫温滅灭滾滚漢汉潔洁" +
	"澤泽濟济灣湾爺爷牆墙獨独獎奖獸兽現现環环產产當当療疗發发盜盗監监盤盘確确禮礼禍祸種种稱称穩稳窩窝競竞筆笔節节範范築筑篩筛簡简" +
	"糧粮約约級级純纯紙纸細细終终組组結结給给絕绝統统經经綠绿維维綱纲網网線线緊紧緣缘編编緩缓練练縣县縮缩總总績绩織织繼继續续" +
	"義义習习聖圣聲声職职聽听腦脑腳脚膽胆臉脸與与興兴舊旧艦舰艷艳藝艺藥药蘇苏蘭兰處处號号蟲虫術术衛卫裝装覺觉親亲觀观規规視视" +
	"貓猫財财責责貨货貪贪貧贫費费賊贼資资賞赏質质賭赌輪轮輸输轉转農农連连進进運运過过遊游達达違违遠远適适選选遲迟還还鄉乡醫医" +
	"釋释針针釣钓鋼钢錄录鍋锅鎖锁陣阵陰阴陽阳階阶際际隊队雙双雜杂雞鸡離离難难雲云靈灵靜静響响頂顶順顺須须預预領领頻频" +
	"餓饿餘余養养騙骗騷骚驚惊髮发鬥斗鬧闹鮮鲜鳳凤鴨鸭鷄鸡麥麦黨党亂乱傳传傷伤價价優优億亿兒儿內内兩两凍冻劇剧劉刘創创動动務务勝胜" +
	"勞劳勢势協协華华單单卻却厲厉參参吳吴嗎吗嘆叹嚇吓嚴严園园圓圆圖图團团場场報报塊块塵尘壓压壞坏壯壮夠够奪夺奮奋婦妇媽妈嬰婴孫孙寫写寬宽對对" +
	"導导屆届層层岡冈島岛幣币師师帶带幫帮庫库應应張张強强彈弹從从復复徵征恥耻悅悦惡恶惱恼態态慘惨慣惯憐怜憤愤憲宪懶懒懷怀懼惧掃扫"

// glyphs are symbols that look like a Latin letter and like nothing else that chat uses.
var glyphs = map[rune]rune{'¢': 'c', '⊂': 'c', '©': 'c', '®': 'r', '€': 'e', '£': 'l', '¥': 'y', '∂': 'd', '¡': 'i', '×': 'x'}

// alike is what foldRune looks up: the letter that another one looks like, and what it really is.
type alike struct {
	letter rune
	look   look
}

var alikes = alikeTable()

func alikeTable() map[rune]alike {
	table := map[rune]alike{'ς': {'σ', plain}}
	add := func(pairs string, look look) {
		runes := []rune(pairs)
		for i := 0; i+1 < len(runes); i += 2 {
			table[runes[i]] = alike{runes[i+1], look}
		}
	}
	add(variants, plain)
	add(simplified, plain)
	for _, l := range lookAlikes {
		add(l.pairs, l.look)
	}
	return table
}

// emblem returns the letter of a pictured one: 🅐 and 🅰.
func emblem(r rune) (rune, bool) {
	switch {
	case r >= 0x1f150 && r <= 0x1f169:
		return 'a' + r - 0x1f150, true
	case r >= 0x1f170 && r <= 0x1f189:
		return 'a' + r - 0x1f170, true
	}
	return 0, false
}
