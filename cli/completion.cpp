// SPDX-License-Identifier: Apache-2.0
// `meshctl completion bash|zsh|fish`: scripts made by walking the command tree, so that they can't fall behind it.
#include <fmt/format.h>

#include <ostream>

#include "cli/context.hpp"

namespace mesh::cli {
namespace {

struct Node {
  std::string path;  ///< "bpf dump"; "" for meshctl itself
  std::vector<const CLI::App*> commands;
  std::vector<std::string> words;  ///< values of a positional with a fixed set
  std::vector<const CLI::Option*> options;
};

/// "(a,b,c)" inside the type name of an option that is checked with IsMember.
std::vector<std::string> members_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto open = type.find('{');
  const auto close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

void walk(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node{.path = path};
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    node.commands.push_back(command);
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_lnames().empty()) {
      node.options.push_back(option);
    } else {
      for (std::string& word : members_of(*option)) node.words.push_back(std::move(word));
    }
  }
  const auto commands = node.commands;
  nodes.push_back(std::move(node));
  for (const CLI::App* command : commands) {
    walk(*command, path.empty() ? command->get_name() : path + " " + command->get_name(), nodes);
  }
}

std::string words_of(const Node& node) {
  std::string words;
  for (const CLI::App* command : node.commands) words += command->get_name() + ' ';
  for (const std::string& word : node.words) words += word + ' ';
  for (const CLI::Option* option : node.options) words += "--" + option->get_lnames().front() + ' ';
  if (!words.empty()) words.pop_back();
  return words;
}

std::string bash_script(const std::vector<Node>& nodes) {
  std::string globals;
  for (const CLI::Option* option : nodes.front().options) globals += " --" + option->get_lnames().front();
  std::string commands;  // patterns of words that make a path longer
  std::string cases;
  for (const Node& node : nodes) {
    if (!node.path.empty()) commands += fmt::format("      \"{}\") path=\"{}\" ;;\n", node.path, node.path);
    cases +=
        fmt::format("    \"{}\") words=\"{}{}\" ;;\n", node.path, words_of(node), node.path.empty() ? "" : globals);
  }
  return fmt::format(R"(# bash completion for meshctl; put it into /usr/share/bash-completion/completions/meshctl
_meshctl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path="" try i words=""
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    try="${{path:+$path }}${{COMP_WORDS[i]}}"
    case "$try" in
{}    esac
  done
  case "$previous" in
    -o|--output) COMPREPLY=($(compgen -W "table wide json yaml" -- "$current")); return ;;
    -s|--socket|--config|--bpffs) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _meshctl meshctl
)",
                     commands, cases);
}

/// A description inside single quotes of a zsh _describe entry.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (c == ':')
      out += "\\:";
    else
      out += c;
  }
  return out;
}

std::string zsh_script(const std::vector<Node>& nodes) {
  std::string paths;
  std::string cases;
  for (const Node& node : nodes) {
    if (!node.path.empty()) paths += fmt::format("      '{}') path_words='{}' ;;\n", node.path, node.path);
    cases += fmt::format("    '{}')\n      entries=(", node.path);
    for (const CLI::App* command : node.commands) {
      cases += fmt::format(" '{}:{}'", command->get_name(), zsh_text(command->get_description()));
    }
    for (const std::string& word : node.words) cases += fmt::format(" '{}'", word);
    for (const CLI::Option* option : node.options) {
      cases += fmt::format(" '--{}:{}'", option->get_lnames().front(), zsh_text(option->get_description()));
    }
    cases += " ) ;;\n";
  }
  return fmt::format(R"(#compdef meshctl
# zsh completion for meshctl; put it into a folder of $fpath as _meshctl
_meshctl() {{
  local path_words='' try i
  local -a entries
  for ((i = 2; i < CURRENT; i++)); do
    try="${{path_words:+$path_words }}${{words[i]}}"
    case "$try" in
{}    esac
  done
  case "${{words[CURRENT-1]}}" in
    -o|--output) entries=(table wide json yaml); _describe 'format' entries; return ;;
    -s|--socket|--config|--bpffs) _files; return ;;
  esac
  case "$path_words" in
{}  esac
  _describe 'meshctl' entries || _files
}}
if [ "$funcstack[1]" = "_meshctl" ]; then _meshctl "$@"; else compdef _meshctl meshctl; fi
)",
                     paths, cases);
}

std::string fish_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string fish_script(const std::vector<Node>& nodes) {
  std::string text =
      "# fish completion for meshctl; put it into ~/.config/fish/completions/meshctl.fish\ncomplete -c meshctl -f\n";
  for (const Node& node : nodes) {
    std::string condition = "__fish_use_subcommand";
    if (!node.path.empty()) {
      condition.clear();
      for (const std::string& word : CLI::detail::split(node.path, ' ')) {
        condition += (condition.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + word);
      }
    }
    for (const CLI::App* command : node.commands) {
      text += fmt::format("complete -c meshctl -n '{}' -a {} -d '{}'\n", condition, command->get_name(),
                          fish_text(command->get_description()));
    }
    for (const std::string& word : node.words)
      text += fmt::format("complete -c meshctl -n '{}' -a {}\n", condition, word);
    for (const CLI::Option* option : node.options) {
      text += fmt::format("complete -c meshctl {}-l {} -d '{}'{}\n", node.path.empty() ? "" : "-n '" + condition + "' ",
                          option->get_lnames().front(), fish_text(option->get_description()),
                          option->get_lnames().front() == "output" ? " -x -a 'table wide json yaml'"
                          : option->get_items_expected_max() > 0   ? " -r -F"
                                                                   : "");
    }
  }
  return text;
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("completion", "a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>{"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n  source <(meshctl completion bash)\n  meshctl completion zsh > \"${fpath[1]}/_meshctl\"\n"
      "  meshctl completion fish > ~/.config/fish/completions/meshctl.fish");
  command->callback([&app, &context, shell] {
    context.run = [&app, &context, shell]() -> base::Result<ExitCode> {
      std::vector<Node> nodes;
      walk(app, "", nodes);
      context.out << (*shell == "bash" ? bash_script(nodes) : *shell == "zsh" ? zsh_script(nodes) : fish_script(nodes));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
