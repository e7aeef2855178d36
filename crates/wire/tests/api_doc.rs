//! `docs/api.md` below its head is what the protocol files say. After a change that is meant,
//! `UPDATE_GOLDEN=1 cargo test -p wire --test api_doc` writes it anew.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// All above it is written by hand.
const MARK: &str = "<!-- From here on written by `UPDATE_GOLDEN=1 cargo test -p wire --test api_doc` -->\n";
/// Areas in the order in which a reader wants them.
const AREAS: [&str; 6] = ["config", "router", "health", "drain", "process", "words"];

/// Numbers of fields in `descriptor.proto`, of which the path of a comment is made.
mod path {
    pub(super) const PACKAGE: i32 = 2;
    pub(super) const MESSAGES: i32 = 4;
    pub(super) const ENUMS: i32 = 5;
    pub(super) const SERVICES: i32 = 6;
    pub(super) const FIELDS: i32 = 2;
    pub(super) const METHODS: i32 = 2;
    pub(super) const VALUES: i32 = 2;
    pub(super) const NESTED: i32 = 3;
    pub(super) const NESTED_ENUMS: i32 = 4;
}

#[test]
fn the_documentation_is_what_the_protocol_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let written = fs::read_to_string(&file).expect("docs/api.md is there");
    let (head, _) = written.split_once(MARK).expect("docs/api.md has the mark below which it is generated");
    let wanted = format!("{head}{MARK}\n{}", areas().iter().map(Area::markdown).collect::<String>());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &wanted).expect("docs/api.md can be written");
    } else if written != wanted {
        let differs = written.lines().zip(wanted.lines()).find(|(is, should)| is != should);
        panic!("docs/api.md is not what the protocol says, first here: {differs:?}; write it anew as its mark says");
    }
}

#[test]
fn whatever_can_be_called_or_sent_is_explained() {
    let silent: Vec<String> = areas().iter().flat_map(Area::silent).collect();
    assert!(silent.is_empty(), "without a comment: {}", silent.join(", "));
}

/// One file of the protocol, with its comments by path.
struct Area {
    file: FileDescriptorProto,
    comments: BTreeMap<Vec<i32>, String>,
}

fn areas() -> Vec<Area> {
    let set = FileDescriptorSet::decode(wire::DESCRIPTORS).expect("the descriptors are those of the build");
    let area = |area: &str| {
        let name = format!("only1mcp.{area}.v1");
        let file = set.file.iter().find(|file| file.package() == name).expect("every area has a file").clone();
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.filter_map(|one| {
            let text = one.leading_comments.as_ref()?;
            Some((one.path.clone(), text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()))
        });
        Area { comments: comments.collect(), file }
    };
    AREAS.map(area).into()
}

fn at(path: &[i32], more: &[i32]) -> Vec<i32> {
    [path, more].concat()
}

fn number(index: usize) -> i32 {
    i32::try_from(index).expect("no file has that much in it")
}

impl Area {
    fn comment(&self, path: &[i32]) -> &str {
        self.comments.get(path).map_or("", String::as_str)
    }

    fn markdown(&self) -> String {
        let mut text = format!("## `{}`\n\n{}\n\n", self.file.package(), self.comment(&[path::PACKAGE]));
        for (index, service) in self.file.service.iter().enumerate() {
            self.service(service, &[path::SERVICES, number(index)], &mut text);
        }
        for (index, message) in self.file.message_type.iter().enumerate() {
            self.message(message, "", &[path::MESSAGES, number(index)], &mut text);
        }
        for (index, one) in self.file.enum_type.iter().enumerate() {
            self.enumeration(one, "", &[path::ENUMS, number(index)], &mut text);
        }
        text
    }

    fn service(&self, service: &ServiceDescriptorProto, path: &[i32], text: &mut String) {
        put(text, &format!("### `{}.{}`\n\n{}\n", self.file.package(), service.name(), self.comment(path)));
        put(text, "| method | takes | returns | |\n|---|---|---|---|");
        for (index, method) in service.method.iter().enumerate() {
            let of = |streams: bool, of: &str| format!("{}{}", if streams { "stream of " } else { "" }, self.link(of));
            let takes = of(method.client_streaming(), method.input_type());
            let returns = of(method.server_streaming(), method.output_type());
            let comment = self.comment(&at(path, &[path::METHODS, number(index)]));
            put(text, &format!("| `{}` | {takes} | {returns} | {comment} |", method.name()));
        }
        put(text, "");
    }

    fn message(&self, message: &DescriptorProto, within: &str, path: &[i32], text: &mut String) {
        let name = format!("{within}{}", message.name());
        put(text, &format!("#### `{name}` ({})\n\n{}\n", self.area(), self.comment(path)));
        if !message.field.is_empty() {
            put(text, "| | field | type | |\n|---|---|---|---|");
        }
        for (index, field) in message.field.iter().enumerate() {
            let comment = self.comment(&at(path, &[path::FIELDS, number(index)]));
            let one_of = field.oneof_index.filter(|_| !field.proto3_optional());
            let one_of = one_of.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
            let one_of = one_of.map(|one| format!("One `{}` of several. ", one.name())).unwrap_or_default();
            let kind = self.kind(field);
            put(text, &format!("| {} | `{}` | {kind} | {one_of}{comment} |", field.number(), field.name()));
        }
        if !message.field.is_empty() {
            put(text, "");
        }
        let within = format!("{name}.");
        for (index, nested) in message.nested_type.iter().enumerate() {
            self.message(nested, &within, &at(path, &[path::NESTED, number(index)]), text);
        }
        for (index, nested) in message.enum_type.iter().enumerate() {
            self.enumeration(nested, &within, &at(path, &[path::NESTED_ENUMS, number(index)]), text);
        }
    }

    fn enumeration(&self, one: &EnumDescriptorProto, within: &str, path: &[i32], text: &mut String) {
        put(text, &format!("#### `{within}{}` ({})\n\n{}\n", one.name(), self.area(), self.comment(path)));
        put(text, "| | value | |\n|---|---|---|");
        for (index, value) in one.value.iter().enumerate() {
            let comment = self.comment(&at(path, &[path::VALUES, number(index)]));
            put(text, &format!("| {} | `{}` | {comment} |", value.number(), value.name()));
        }
        put(text, "");
    }

    /// `config` of `only1mcp.config.v1`.
    fn area(&self) -> &str {
        self.file.package().split('.').nth(1).unwrap_or_default()
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        let kind = if matches!(field.r#type(), Type::Message | Type::Enum) {
            self.link(field.type_name())
        } else {
            format!("`{}`", field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase())
        };
        if field.label() == Label::Repeated { format!("list of {kind}") } else { kind }
    }

    /// To where a type of ours is explained.
    fn link(&self, full: &str) -> String {
        let full = full.trim_start_matches('.');
        let Some((area, name)) = full.strip_prefix("only1mcp.").and_then(|rest| rest.split_once(".v1.")) else {
            return format!("`{full}`");
        };
        let anchor = format!("{name}-{area}").to_lowercase().replace('.', "");
        let shown = if area == self.area() { name.to_owned() } else { format!("{area}.v1.{name}") };
        format!("[`{shown}`](#{anchor})")
    }

    /// Services, methods, messages and enums without a word.
    fn silent(&self) -> Vec<String> {
        let mut paths = vec![(vec![path::PACKAGE], self.file.package().to_owned())];
        for (index, service) in self.file.service.iter().enumerate() {
            let path = vec![path::SERVICES, number(index)];
            let methods = service.method.iter().enumerate();
            paths.extend(methods.map(|(at_, one)| (at(&path, &[path::METHODS, number(at_)]), one.name().to_owned())));
            paths.push((path, service.name().to_owned()));
        }
        for (index, message) in self.file.message_type.iter().enumerate() {
            of_message(message, vec![path::MESSAGES, number(index)], &mut paths);
        }
        let enums = self.file.enum_type.iter().enumerate();
        paths.extend(enums.map(|(index, one)| (vec![path::ENUMS, number(index)], one.name().to_owned())));
        let silent = paths.into_iter().filter(|(path, _)| self.comment(path).is_empty());
        silent.map(|(_, name)| format!("{}.{name}", self.area())).collect()
    }
}

fn of_message(message: &DescriptorProto, path: Vec<i32>, paths: &mut Vec<(Vec<i32>, String)>) {
    for (index, nested) in message.nested_type.iter().enumerate() {
        of_message(nested, at(&path, &[path::NESTED, number(index)]), paths);
    }
    let enums = message.enum_type.iter().enumerate();
    paths.extend(enums.map(|(index, one)| (at(&path, &[path::NESTED_ENUMS, number(index)]), one.name().to_owned())));
    paths.push((path, message.name().to_owned()));
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}
