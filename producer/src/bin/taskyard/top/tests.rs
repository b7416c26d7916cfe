//! What happens to the model, and what is drawn of it.

use super::event::{Event, Key, Queue};
use super::model::{Model, Screen, Wanted};
use super::render::{Theme, render};
use crate::counts::Counts;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use std::collections::BTreeMap;
use taskyard_common::store::{Fields, TaskView, WorkerView};
use taskyard_model::{PoolName, State, TaskId, Timestamp, WorkerId};

const NOW_MS: u64 = 1_709_208_000_000;

fn counts(succeeded: i64) -> Counts {
    let all = [("accepted", succeeded + 7), ("succeeded", succeeded), ("slots", 8), ("busy", 3)];
    Counts::from(BTreeMap::from(all.map(|(name, count)| (name.to_owned(), count))))
}

fn counted(second: u64, succeeded: i64) -> Event {
    let at = Timestamp::from_ms(NOW_MS + second * 1_000);
    let pools = ["default", "mail"].map(|name| (PoolName::new(name).unwrap(), counts(succeeded)));
    Event::Counted { at, pools: pools.into() }
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|&(name, value)| (name, value.to_owned())).collect()
}

fn task(id: &str, more: &[(&str, &str)]) -> TaskView {
    let own = [("id", id), ("state", "failed"), ("kind", "image.resize"), ("attempt", "2")];
    TaskView { id: TaskId::new(id).unwrap(), fields: fields(&[&own, more].concat()) }
}

fn failed(ids: &[&str]) -> Event {
    Event::Tasks { state: State::Failed, tasks: ids.iter().map(|id| task(id, &[])).collect() }
}

fn model(events: impl IntoIterator<Item = Event>) -> Model {
    let mut model = Model::default();
    events.into_iter().for_each(|event| model.update(event));
    model
}

fn press(model: &mut Model, keys: impl IntoIterator<Item = Key>) {
    keys.into_iter().for_each(|key| model.update(Event::Key(key)));
}

fn typed(text: &str) -> impl Iterator<Item = Key> {
    text.chars().map(Key::Char)
}

fn drawn(model: &Model, columns: u16, rows: u16, has_colours: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| render(model, Theme { has_colours }, frame)).unwrap();
    terminal
}

/// What is on the screen, line by line.
fn lines(model: &Model) -> Vec<String> {
    let terminal = drawn(model, 110, 24, true);
    let cells = terminal.backend().buffer().content();
    let line = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect();
    let lines: Vec<String> = cells.chunks(110).map(line).collect();
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[track_caller]
fn assert_shows(model: &Model, texts: &[&str]) {
    let screen = lines(model).join("\n");
    texts.iter().for_each(|text| assert!(screen.contains(text), "no {text:?} in\n{screen}"));
}

#[test]
fn before_the_first_answer_it_says_that_it_asks() {
    assert_shows(&Model::default(), &["1 Overview", "asking", "q quit"]);
    let none = model([Event::Counted { at: Timestamp::from_ms(NOW_MS), pools: Vec::new() }]);
    assert_shows(&none, &["is taskyard-dispatcher running?", "2024-02-29 12:00:00Z"]);
}

#[test]
fn overview_has_a_row_for_each_pool_and_pictures_of_the_selected_one() {
    let mut model = model((0..20).map(|s| counted(s, 50 * s as i64)));
    let screen = lines(&model);
    assert!(screen[2].starts_with("POOL     IN/S  OUT/S"), "{screen:#?}");
    assert!(screen[3].starts_with("default  50    50"), "{screen:#?}");
    assert!(screen[3].contains("3/8") && screen[4].starts_with("mail"), "{screen:#?}");
    assert_shows(
        &model,
        &["default accepted a second; the highest here is 50", "default ended", "█"],
    );
    press(&mut model, [Key::Down]);
    assert_shows(&model, &["mail accepted a second"]);
}

#[test]
fn tabs_and_digits_lead_through_the_screens() {
    let mut model = Model::default();
    let mut screens = vec![model.screen];
    for _ in 0..4 {
        press(&mut model, [Key::Next]);
        screens.push(model.screen);
    }
    use Screen::{Lanes, Overview, Recent, Workers};
    assert_eq!(screens, [Overview, Workers, Lanes, Recent, Overview]);
    press(&mut model, [Key::Previous]);
    assert_eq!(model.screen, Recent);
    press(&mut model, [Key::Char('2')]);
    assert_eq!((model.screen, model.wanted()), (Workers, Wanted::Workers));
    press(&mut model, [Key::Char('3')]);
    assert_eq!(model.wanted(), Wanted::Queues);
    press(&mut model, [Key::Char('q')]);
    assert!(model.is_over());
}

#[test]
fn workers_are_followed_by_their_ids() {
    let worker = |id: &str| WorkerView {
        id: WorkerId::new(id).unwrap(),
        seen_at: Timestamp::from_ms(NOW_MS),
        fields: fields(&[("state", "up"), ("busy", "3"), ("slots", "8"), ("weight", "2")]),
    };
    let mut model = model([counted(3, 0), Event::Workers(vec![worker("b"), worker("c")])]);
    press(&mut model, [Key::Char('2'), Key::Down]);
    model.update(Event::Workers(vec![worker("a"), worker("b"), worker("c")]));
    assert_eq!(model.workers.selected().unwrap().id.as_str(), "c");
    assert_shows(&model, &["SEEN", "c   up           3/8   2", "3.0 s ago"]);
}

#[test]
fn lanes_are_called_approximate_and_their_absence_is_explained() {
    let queue = |name: &str, messages| Queue { name: name.into(), holds: "backlog", messages };
    let queues = vec![queue("taskyard.lane.default.9", Some(1_200)), queue("x.dead", None)];
    let mut model = model([counted(0, 0), Event::Queues(Ok(queues))]);
    press(&mut model, [Key::Char('3')]);
    assert_shows(&model, &["about", "taskyard.lane.default.9  1200", "not there"]);
    model.update(Event::Queues(Err("RabbitMQ cannot be asked: no route".to_owned())));
    assert_shows(&model, &["RabbitMQ cannot be asked: no route"]);
}

#[test]
fn states_are_turned_through_and_late_answers_are_ignored() {
    let mut model = model([counted(0, 0)]);
    press(&mut model, [Key::Char('4')]);
    model.update(failed(&["t1", "t2"]));
    assert_shows(&model, &["of the latest 200", "t1  failed  image.resize", "/ filter by kind"]);
    press(&mut model, [Key::Right]);
    assert_shows(&model, &["looking"]);
    model.update(failed(&["t3"]));
    assert!(model.recent.tasks.rows().is_empty(), "they are not cancelled");
    let wanted = |look| Wanted::Tasks { state: State::Cancelled, kind: None, look };
    assert_eq!(model.wanted(), wanted(0));
    press(&mut model, [Key::Char('r')]);
    assert_eq!(model.wanted(), wanted(1), "asked for anew");
}

#[test]
fn a_filter_is_typed_corrected_and_taken_away() {
    let mut model = model([counted(0, 0)]);
    press(&mut model, [Key::Char('4'), Key::Char('/')]);
    // While it is typed no key means anything else.
    press(&mut model, typed("q 4"));
    assert_shows(&model, &["kind: q 4"]);
    press(&mut model, [Key::Enter]);
    assert!(model.recent.filter.mistake.is_some() && model.recent.filter.is_open());
    press(&mut model, [Key::Erase, Key::Erase, Key::Erase]);
    press(&mut model, typed("image.#").chain([Key::Enter]));
    let Wanted::Tasks { kind: Some(kind), .. } = model.wanted() else { panic!("no filter") };
    assert_eq!(kind.as_str(), "image.#");
    model.update(failed(&["t1"]));
    assert_shows(&model, &["of the latest 200, of the kind image.# (esc: all)", "t1"]);
    press(&mut model, [Key::Escape]);
    assert!(matches!(model.wanted(), Wanted::Tasks { kind: None, .. }));
}

#[test]
fn a_task_is_opened_with_all_its_fields_and_its_result() {
    let mut model = model([counted(60, 0)]);
    press(&mut model, [Key::Char('4')]);
    model.update(failed(&["t1", "t2"]));
    press(&mut model, [Key::Down, Key::Enter]);
    let id = TaskId::new("t2").unwrap();
    assert_eq!(model.wanted(), Wanted::Task(id.clone()));
    assert_shows(&model, &["t2: asking", "esc back"]);
    let of = |id: &str, more: &[(&str, &str)]| Event::Task {
        id: TaskId::new(id).unwrap(),
        task: Some(Box::new(task(id, more))),
    };
    model.update(of("t1", &[]));
    assert_shows(&model, &["t2: asking"]);
    let at = NOW_MS.to_string();
    let more = [("error", "disk\nfull"), ("submitted_at", at.as_str()), ("result", "one\ntwo")];
    model.update(of("t2", &more));
    assert_shows(&model, &["t2  failed", "error            disk full", "result, 7 bytes", "two"]);
    assert_shows(&model, &["submitted_at     60 s ago     2024-02-29 12:00:00.000Z"]);
    press(&mut model, [Key::Down, Key::Down]);
    assert!(!lines(&model)[2].contains("t2"), "scrolled");
    model.update(Event::Task { id, task: None });
    press(&mut model, [Key::First]);
    assert_shows(&model, &["no such task (any more)"]);
    press(&mut model, [Key::Escape]);
    assert_eq!(model.screen, Screen::Recent);
}

#[test]
fn trouble_is_shown_until_it_is_over() {
    let mut model = model([counted(0, 0), Event::Failed("redis is out of reach".to_owned())]);
    assert_shows(&model, &["redis is out of reach", "default"]);
    model.update(counted(1, 0));
    assert!(!lines(&model).join("\n").contains("out of reach"));
}

#[test]
fn what_has_no_room_is_cut_at_the_right() {
    let mut model = model([counted(0, 0)]);
    press(&mut model, [Key::Char('4')]);
    model.update(failed(&["a-rather-long-id"]));
    let terminal = drawn(&model, 40, 8, true);
    let cells = terminal.backend().buffer().content();
    let text: String = cells.iter().map(|cell| cell.symbol()).collect();
    assert!(text.contains("a-rather-long-id  failed  image.resize"), "{text}");
}

#[test]
fn every_screen_can_be_drawn_at_any_size() {
    let queues = vec![Queue { name: "q".into(), holds: "x", messages: Some(1) }];
    let mut model = model([counted(0, 0), counted(1, 9), Event::Queues(Ok(queues))]);
    model.update(failed(&["t1"]));
    let keys = [Key::Char('1'), Key::Char('2'), Key::Char('3'), Key::Char('4'), Key::Enter];
    for key in keys {
        press(&mut model, [key]);
        for (columns, rows) in [(1, 1), (3, 2), (10, 3), (40, 5), (80, 24), (300, 100)] {
            drawn(&model, columns, rows, true);
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut model = model([counted(0, 0), counted(1, 9), Event::Failed("odd".to_owned())]);
    let is_coloured = |model: &Model, wanted| {
        let terminal = drawn(model, 110, 24, wanted);
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(is_coloured(&model, true) && !is_coloured(&model, false));
    press(&mut model, [Key::Char('4')]);
    assert!(is_coloured(&model, true) && !is_coloured(&model, false));
}
