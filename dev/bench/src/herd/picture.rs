//! A run as a Gantt chart in SVG, with a row for each application. States differ by form and not by
//! colour, so that the
//! chart reads in black and white. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::timeline::{Pod, PodState, RunResult};

pub struct Chart<'a> {
    pub title: &'a str,
    pub result: &'a RunResult,
    /// The CPU time of all starts by cores.
    pub limit: Duration,
    /// The end of the axis, the same for all pictures of a herd.
    pub end: Duration,
}

const WIDTH: f64 = 480.0;
const LEFT: f64 = 14.0;
const RIGHT: f64 = 466.0;
/// The top of the first row.
const TOP: f64 = 62.0;
/// The height of a row, and of the bar in it.
const ROW: f64 = 11.0;
const BAR: f64 = 8.0;
/// The width of the longest name of a moment.
const NAME: f64 = 60.0;
/// The most labels of the axis.
const STEPS: u64 = 8;

const HATCH: &str = "\
<defs><pattern id=\"hatch\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"4\" height=\"4\" fill=\"#fff\"/><rect width=\"1.4\" height=\"4\" fill=\"#000\"/></pattern></defs>\n";

pub fn svg(chart: &Chart) -> String {
    let bottom = TOP + ROW * chart.result.pods.len() as f64 + 4.0;
    let height = bottom + 66.0;
    let (title, result) = (escaped(chart.title), escaped(&result(chart.result)));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>{title}: {result}</title>\n{HATCH}\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    svg += &text(
        LEFT,
        18.0,
        "start",
        &format!("<tspan font-size=\"14\" font-weight=\"bold\">{title}</tspan>"),
    );
    svg += &text(LEFT, 34.0, "start", &result);
    svg += &axis(chart, bottom);
    for (number, pod) in in_order(&chart.result.pods).into_iter().enumerate() {
        let top = TOP + ROW * number as f64;
        pod.spans(chart.end)
            .for_each(|(doing, from, to)| svg += &bar(doing, chart.x(from), chart.x(to), top));
    }
    svg += &moment(
        chart.x(chart.limit),
        bottom,
        Side::Left,
        "lower limit",
        "stroke-dasharray=\"4 3\"",
    );
    if let Some(took) = chart.result.took() {
        svg += &moment(chart.x(took), bottom, Side::Right, "all ready", "");
    }
    svg += &legend(bottom + 54.0);
    svg + "</svg>\n"
}

impl Chart<'_> {
    /// The place on the axis, at most its end.
    fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.end.as_secs_f64().max(f64::MIN_POSITIVE);
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    }
}

fn result(result: &RunResult) -> String {
    let kills = match result.kills() {
        0 => "no start killed".to_owned(),
        1 => "1 start killed".to_owned(),
        kills => format!("{kills} starts killed"),
    };
    match result.took() {
        Some(took) => {
            format!("all {} ready after {:.1} s, {kills}", result.pods.len(), took.as_secs_f64())
        }
        None => format!(
            "{} of {} not ready after {:.0} s, {kills}",
            result.left(),
            result.pods.len(),
            result.cut_off.as_secs_f64()
        ),
    }
}

/// Sorted by the time of ready, then by the begin of the start.
fn in_order(pods: &[Pod]) -> Vec<&Pod> {
    let mut pods: Vec<_> = pods.iter().collect();
    let key = |pod: &&Pod| {
        let started = pod
            .spans(Duration::MAX)
            .find(|(doing, ..)| *doing != PodState::Waiting)
            .map(|(_, from, _)| from);
        (pod.ready().unwrap_or(Duration::MAX), started)
    };
    pods.sort_by_key(key);
    pods
}

/// A state that uses CPU has a thick bar.
fn bar(doing: PodState, from: f64, to: f64, top: f64) -> String {
    let middle = top + BAR / 2.0;
    let line = |style: &str| {
        format!("<path d=\"M{from:.1} {middle:.1}H{to:.1}\" stroke=\"#000\" {style}/>\n")
    };
    let rect = |style: &str| {
        let width = to - from;
        format!(
            "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" {style}/>\n"
        )
    };
    match doing {
        PodState::Waiting => line("stroke-width=\"1\""),
        PodState::Idle => line("stroke-width=\"1.4\" stroke-dasharray=\"1.4 2.6\""),
        PodState::Starting => rect("fill=\"#444\" stroke=\"#000\" stroke-width=\"0.6\""),
        PodState::Killed => {
            let (left, right, upper, lower) =
                (to - 3.5, (to + 3.5).min(RIGHT), top + 0.5, top + BAR - 0.5);
            let cross = format!(
                "M{left:.1} {upper:.1}L{right:.1} {lower:.1}M{left:.1} {lower:.1}L{right:.1} {upper:.1}"
            );
            rect("fill=\"url(#hatch)\" stroke=\"#000\" stroke-width=\"0.6\"")
                + &format!("<path d=\"{cross}\" stroke=\"#000\" stroke-width=\"1.8\"/>\n")
        }
        PodState::Ready => {
            let tip = from + 6.0;
            rect("fill=\"#ddd\"")
                + &format!(
                    "<path d=\"M{from:.1} {top:.1}L{tip:.1} {middle:.1}L{from:.1} {:.1}Z\"/>\n",
                    top + BAR
                )
        }
    }
}

fn axis(chart: &Chart, bottom: f64) -> String {
    let mut axis = format!("<path d=\"M{LEFT} {bottom:.1}H{RIGHT}\" stroke=\"#000\"/>\n");
    let seconds = chart.end.as_secs();
    let step = step(seconds);
    for second in (0..=seconds).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        let x = chart.x(Duration::from_secs(second));
        let _ = writeln!(axis, "<path d=\"M{x:.1} {bottom:.1}v4\" stroke=\"#000\"/>");
        axis += &text(x, bottom + 15.0, "middle", &second.to_string());
    }
    axis + &text(
        (LEFT + RIGHT) / 2.0,
        bottom + 29.0,
        "middle",
        "seconds since the pods came; a row for each application",
    )
}

/// 1, 2 or 5 times a power of ten, with at most `STEPS` labels.
fn step(seconds: u64) -> u64 {
    let steps = std::iter::successors(Some(1_u64), |power| power.checked_mul(10))
        .flat_map(|power| [1, 2, 5].map(|n| n * power));
    let mut fitting = steps.take(50).filter(|step| seconds / step <= STEPS);
    fitting.next().unwrap_or(seconds.max(1))
}

/// The place of a moment's name. The limit comes before the end, so their names never meet.
#[derive(PartialEq)]
enum Side {
    Left,
    Right,
}

fn moment(x: f64, bottom: f64, side: Side, name: &str, style: &str) -> String {
    let top = TOP - 6.0;
    let line = format!(
        "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#000\" stroke-width=\"1.2\" {style}/>\n"
    );
    // Near an end of the axis the name would leave the picture.
    let is_left = if side == Side::Left { x > LEFT + NAME } else { x > RIGHT - NAME };
    line + &text(x, top - 4.0, if is_left { "end" } else { "start" }, name)
}

fn legend(y: f64) -> String {
    let entries = [
        (PodState::Waiting, "waiting"),
        (PodState::Idle, "kubelet's latency, back-off"),
        (PodState::Starting, "starting"),
        (PodState::Killed, "killed"),
        (PodState::Ready, "ready"),
    ];
    let places = [LEFT, 80.0, 258.0, 334.0, 412.0];
    let entry = |((doing, name), x): ((PodState, &str), f64)| {
        bar(doing, x, x + 18.0, y - BAR) + &text(x + 25.0, y, "start", name)
    };
    entries.into_iter().zip(places).map(entry).collect()
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn drawn(pods: Vec<Pod>) -> String {
        let result = RunResult { pods, cut_off: s(50) };
        svg(&Chart { title: "5 % < 6 %", result: &result, limit: s(10), end: s(50) })
    }

    /// Without the legend, which shows each state once.
    fn count(svg: &str, part: &str) -> usize {
        svg.matches(part).count()
    }

    #[test]
    fn each_state_has_a_form_of_its_own() {
        let forms = [
            PodState::Waiting,
            PodState::Idle,
            PodState::Starting,
            PodState::Killed,
            PodState::Ready,
        ]
        .map(|doing| bar(doing, 0.0, 9.0, 0.0));
        for (number, form) in forms.iter().enumerate() {
            assert!(forms.iter().skip(number + 1).all(|other| other != form), "{form}");
        }
    }

    #[test]
    fn all_are_ready() {
        let svg = drawn(vec![
            Pod::of(&[
                (PodState::Waiting, 0),
                (PodState::Idle, 2),
                (PodState::Starting, 3),
                (PodState::Ready, 20),
            ]),
            Pod::of(&[(PodState::Starting, 0), (PodState::Ready, 5)]),
        ]);
        assert_eq!(
            svg.matches("5 % &lt; 6 %: all 2 ready after 20.0 s, no start killed").count(),
            1,
            "{svg}"
        );
        assert!(svg.contains(">all ready<") && svg.contains(">lower limit<"), "{svg}");
        assert_eq!(
            (count(&svg, "#444"), count(&svg, "#ddd"), count(&svg, "url(#hatch)")),
            (2 + 1, 2 + 1, 1),
            "{svg}"
        );
        // 452 units are 50 s: the application that is ready first has the first row, from 5 s on.
        assert!(
            svg.contains(
                "<rect x=\"59.2\" y=\"62.0\" width=\"406.8\" height=\"8\" fill=\"#ddd\"/>"
            ),
            "{svg}"
        );
        assert!(
            svg.contains("<path d=\"M194.8 56.0V88.0\" stroke=\"#000\" stroke-width=\"1.2\" />"),
            "{svg}"
        );
    }

    #[test]
    fn some_are_killed_and_never_ready() {
        let mut killed = Pod::of(&[(PodState::Starting, 1)]);
        killed.killed(s(5), s(1));
        let svg = drawn(vec![killed, Pod::of(&[(PodState::Starting, 0), (PodState::Ready, 1)])]);
        assert!(svg.contains("1 of 2 not ready after 50 s, 1 start killed"), "{svg}");
        assert!(!svg.contains(">all ready<") && svg.contains(">lower limit<"), "{svg}");
        assert_eq!(count(&svg, "url(#hatch)"), 1 + 1, "{svg}");
    }

    #[test]
    fn the_axis_has_few_round_steps() {
        for (seconds, expected) in
            [(0, 1), (7, 1), (8, 1), (9, 2), (50, 10), (100, 20), (1_000, 200)]
        {
            assert_eq!(step(seconds), expected, "{seconds}");
        }
        let svg = drawn(vec![Pod::of(&[(PodState::Waiting, 0)])]);
        for label in [">0<", ">10<", ">50<", "seconds since"] {
            assert!(svg.contains(label), "{label} in {svg}");
        }
    }

    #[test]
    fn a_run_that_took_longer_than_the_axis_stays_within() {
        let svg = drawn(vec![Pod::of(&[(PodState::Starting, 0), (PodState::Ready, 60)])]);
        assert!(svg.contains("width=\"452.0\"") && svg.contains("M466.0"), "{svg}");
    }
}
