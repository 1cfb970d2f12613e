# bash completion for detect(1)
_detect() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    local run="--model --device --precision --size --threads --batch --json --table --verbose --help --version"
    local detect="--score --iou --classes --multi-label --agnostic --max-objects --csv --draw --video --drop --max-latency --max-side --max-bytes"
    case $before in
    --device) COMPREPLY=($(compgen -W "auto cpu cuda" -- "$word")) ;;
    --precision) COMPREPLY=($(compgen -W "auto fp32 tf32 fp16 bf16" -- "$word")) ;;
    --draw) COMPREPLY=($(compgen -d -- "$word")) ;;
    --size | --threads | --batch | --score | --iou | --classes | --max-objects | --video | --max-latency | --max-side | --max-bytes) COMPREPLY=() ;;
    --model) COMPREPLY=($(compgen -f -W "damofd-0.5g-kps damofd-2.5g-kps" -- "$word")) ;;
    *)
        case $word in
        -*)
            case $command in
            info) COMPREPLY=($(compgen -W "$run --layers" -- "$word")) ;;
            models) COMPREPLY=($(compgen -W "--help --version" -- "$word")) ;;
            *) COMPREPLY=($(compgen -W "$run $detect" -- "$word")) ;;
            esac
            ;;
        *)
            COMPREPLY=($(compgen -f -- "$word"))
            [ "$COMP_CWORD" = 1 ] && COMPREPLY+=($(compgen -W "info models" -- "$word"))
            ;;
        esac
        ;;
    esac
}
complete -o filenames -F _detect detect
