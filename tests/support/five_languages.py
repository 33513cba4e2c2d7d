"""A small guide in five languages and five scripts, a Markdown file a resource, as a team's folder of documentation."""

from pathlib import Path

# Language -> resources; three sections as (heading, sentences). {x} is the resource.
GUIDES = {
    "en": (
        ["bucket", "queue", "database", "network", "certificate", "backup", "cluster", "invoice"],
        [
            ("Creating the {x}", [
                "To create a {x}, open the console and choose the region first.",
                "The name of each {x} must be unique within the account, e.g. team-{x}-1.",
                "A new {x} is ready for use after about one minute.",
            ]),
            ("Who may use it", [
                "Mrs. Miller's team decides who may read the {x} and who may change it.",
                "Without a rule of its own, a {x} takes the permissions of its project.",
                "Every access to the {x} is written to the log, with time and user.",
            ]),
            ("Deleting it for good", [
                "A {x} that is deleted stays in the bin for thirty days.",
                "Until then the administrator can restore the {x} with all its content.",
                "After that nobody can get the {x} back, not even support.",
            ]),
        ],
    ),
    "ru": (
        ["хранилище", "очередь", "таблица", "сеть", "сертификат", "копия", "кластер", "счёт"],
        [
            ("Создание: {x}", [
                "Чтобы создать ресурс «{x}», откройте консоль и сначала выберите регион.",
                "Имя ресурса «{x}» не должно повторяться, т. е. быть единственным в учётной записи.",
                "Новый ресурс «{x}» готов к работе примерно через минуту.",
            ]),
            ("Права доступа", [
                "Команда проекта решает, кто может читать ресурс «{x}», а кто менять.",
                "Без собственного правила ресурс «{x}» получает права своего проекта.",
                "Каждое обращение к ресурсу «{x}» записывается в журнал со временем.",
            ]),
            ("Удаление навсегда", [
                "Удалённый ресурс «{x}» ещё тридцать дней лежит в корзине.",
                "До этого срока администратор может вернуть «{x}» со всем содержимым.",
                "Потом никто не сможет восстановить «{x}», даже служба поддержки!",
            ]),
        ],
    ),
    "zh": (
        ["存储桶", "队列", "数据库", "网络", "证书", "备份", "集群", "账单"],
        [
            ("创建{x}", [
                "要创建{x}，请先打开控制台，然后选择所在的区域。",
                "每个{x}的名称在账户内必须是唯一的，不能重复使用。",
                "新的{x}大约一分钟之后就可以开始使用。",
            ]),
            ("访问权限", [
                "项目团队决定谁可以读取{x}，谁可以修改它。",
                "如果没有单独的规则，{x}会继承所属项目的权限。",
                "对{x}的每一次访问都会连同时间和用户写入日志。",
            ]),
            ("永久删除", [
                "被删除的{x}会在回收站里保留三十天的时间。",
                "在此期间，管理员可以恢复{x}以及其中的全部内容。",
                "此后没有人能找回{x}，技术支持也不行！",
            ]),
        ],
    ),
    "hi": (
        ["भंडार", "कतार", "डेटाबेस", "नेटवर्क", "प्रमाणपत्र", "बैकअप", "क्लस्टर", "बिल"],
        [
            ("{x} बनाना", [
                "{x} बनाने के लिए कंसोल खोलें और सबसे पहले क्षेत्र चुनें।",
                "खाते के भीतर हर {x} का नाम अलग होना चाहिए।",
                "नया {x} लगभग एक मिनट में काम के लिए तैयार हो जाता है।",
            ]),
            ("पहुँच के अधिकार", [
                "परियोजना की टीम तय करती है कि {x} कौन पढ़ सकता है और कौन बदल सकता है।",
                "अपना नियम न होने पर {x} को परियोजना के अधिकार मिलते हैं।",
                "{x} की हर पहुँच समय और उपयोगकर्ता के साथ लॉग में लिखी जाती है।",
            ]),
            ("हमेशा के लिए हटाना", [
                "हटाया गया {x} तीस दिन तक कूड़ेदान में रहता है।",
                "तब तक व्यवस्थापक {x} को पूरी सामग्री के साथ वापस ला सकता है।",
                "उसके बाद {x} को कोई वापस नहीं ला सकता, सहायता दल भी नहीं।",
            ]),
        ],
    ),
    "ar": (
        ["الحاوية", "الطابور", "الجدول", "الشبكة", "الشهادة", "النسخة", "العنقود", "الفاتورة"],
        [
            ("إنشاء {x}", [
                "لإنشاء مورد {x} افتح وحدة التحكم واختر المنطقة أولا.",
                "يجب أن يكون اسم {x} فريدا داخل الحساب ولا يتكرر أبدا.",
                "يصبح مورد {x} جاهزا للاستخدام بعد دقيقة تقريبا.",
            ]),
            ("صلاحيات الوصول", [
                "يقرر فريق المشروع من يستطيع قراءة {x} ومن يستطيع تغييرها.",
                "من دون قاعدة خاصة تأخذ {x} صلاحيات المشروع الذي تتبعه.",
                "هل يسجل كل وصول إلى {x}؟ نعم، مع الوقت واسم المستخدم.",
            ]),
            ("الحذف النهائي", [
                "يبقى مورد {x} المحذوف ثلاثين يوما في سلة المهملات.",
                "حتى ذلك الحين يستطيع المسؤول استعادة {x} بكل محتواها.",
                "بعد ذلك لا يستطيع أحد استعادة {x}، ولا حتى فريق الدعم.",
            ]),
        ],
    ),
}  # fmt: skip
# A comment in the code is no heading.
CODE = "~~~sh\n# {x}: a comment in the code\ntool create --wait\n~~~"


def write(folder: Path) -> int:
    """Write a folder for each language and return how many documents there are."""
    count = 0
    for language, (resources, sections) in GUIDES.items():
        for number, resource in enumerate(resources):
            space = "" if language == "zh" else " "
            parts = [
                f"## {heading}\n\n{space.join(sentences)}" + f"\n\n{CODE}" * (index == 0)
                for index, (heading, sentences) in enumerate(sections)
            ]
            text = "\n\n".join([f'---\ntitle: "{resource}"\n---', *parts]).replace("{x}", resource)
            path = folder / language / f"{number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
            count += 1
    return count
